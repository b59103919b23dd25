"""The role that deploys may do what CloudFormation does on its behalf, and gives no role what the pipelines lack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache

import pytest

from infra.release.templates import NESTED
from tests.worlds.templates import INFRA, load, properties_of, statements, texts

BY_SID = {statement["Sid"]: statement for _, statement in statements(load("deploy-role.yaml"))}

IN_NO_USE = {
    "AWS::ApiGateway::RestApi": {"apigateway:UpdateRestApiPolicy": "the API has no policy of its own"},
    "AWS::ApiGatewayV2::Stage": {
        "apigateway:TagResource": "IAM knows no such action: tags are put by PUT and POST of /tags",
        "apigateway:UntagResource": "the same",
    },
    "AWS::CloudFormation::Stack": {
        "cloudformation:SetStackPolicy": "no nested stack has a policy",
        "cloudformation:UpdateTerminationProtection": "nor is it protected by itself",
    },
    "AWS::DynamoDB::Table": {
        "dynamodb:*Item": "items come with tables that are imported or replicated",
        "dynamodb:Query": "the same",
        "dynamodb:Scan": "the same",
        "kinesis:*": "no table sends its changes to a stream of Kinesis",
        "kms:*": "the key is DynamoDB's own in the account, whose policy lets it be used through DynamoDB",
    },
    "AWS::EC2::VPCEndpoint": {
        "vpc-lattice:*": "no endpoint leads to a service network",
        "vpce:AllowMultiRegion": "no endpoint leads to another region",
    },
    "AWS::EC2::VPCGatewayAttachment": {"ec2:*achVpnGateway": "the gateway is one to the internet"},
    "AWS::IAM::ManagedPolicy": {
        "iam:*tachGroupPolicy": "policies are attached to roles alone",
        "iam:*tachUserPolicy": "the same",
    },
    "AWS::IAM::Role": {"iam:*RolePermissionsBoundary": "no role has a boundary"},
    "AWS::Lambda::Function": {
        "elasticfilesystem:*": "no function has a file system",
        "s3files:*": "the same",
        "kms:*": "variables and code are encrypted by keys of Lambda's own",
    },
    "AWS::Logs::LogGroup": {"firehose:TagDeliveryStream": "logs are delivered nowhere"},
    "AWS::MWAA::Environment": {
        "iam:ListRoles": "the console's, for its lists to choose from",
        "kms:CreateGrant": "the environment's key is AWS's own",
        "kms:ListAliases": "the console's, for its lists to choose from",
    },
    "AWS::S3::Bucket": {"s3tables:*": "no bucket keeps tables on its objects"},
}
"""Actions that CloudFormation may take for a type of resource, but not for those of the templates; with the reason."""


def deployed() -> set[str]:
    """Types of the resources of both stacks."""
    written = {item["Type"] for name in ("template.yaml", "mwaa.yaml") for item in load(name)["Resources"].values()}
    return written | {NESTED}


@cache
def handled() -> dict[str, set[str]]:
    """Actions that CloudFormation takes to make, read, change and delete resources, by type.

    As the types' own schemas list them, of which cfn-lint brings a copy.
    """
    (folder,) = (INFRA.parent / ".venv-aws" / "lib").glob("python*/site-packages/cfnlint/data/schemas/resources")
    wanted, found = deployed(), {}
    for path in folder.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        if any(f'"{kind}"' in text for kind in wanted):
            schema = json.loads(text)
            handlers = {name: item for name, item in schema.get("handlers", {}).items() if name != "list"}
            found[schema["typeName"]] = {action for item in handlers.values() for action in item["permissions"]}
    return found


def matches(action: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def actions(effect: str) -> list[str]:
    """Patterns of actions that are allowed or denied, but for those that are denied to others than CloudFormation."""
    return [
        action
        for sid, statement in BY_SID.items()
        if statement["Effect"] == effect and sid != "NoSecretValues"
        for action in texts(statement["Action"])
    ]


@pytest.mark.parametrize("kind", sorted(deployed()))
def test_cloudformation_may_do_for_a_resource_what_it_has_to(kind: str) -> None:
    needed = {action for action in handled()[kind] if not matches(action, list(IN_NO_USE.get(kind, {})))}
    assert needed, "the test would prove nothing"
    assert {action for action in needed if not matches(action, actions("Allow"))} == set()
    assert {action for action in needed if matches(action, actions("Deny"))} == set()


def test_what_is_said_to_be_in_no_use_is_not_given_and_would_be_missed_otherwise() -> None:
    for kind, unused in IN_NO_USE.items():
        for pattern in unused:
            meant = {action for action in handled()[kind] if matches(action, [pattern])}
            assert meant, f"{kind}: {pattern}"
            lacking = {item for item in meant if not matches(item, actions("Allow")) or matches(item, actions("Deny"))}
            assert lacking, f"{kind}: {pattern} needs no excuse"


def test_values_of_secrets_are_read_by_cloudformation_alone() -> None:
    denied = BY_SID["NoSecretValues"]
    assert (denied["Effect"], denied["Resource"]) == ("Deny", "*")
    assert set(denied["Action"]) == {"secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"}
    # Of a call that nobody makes on behalf of another the key is missing, and ForAllValues holds.
    assert denied["Condition"] == {"ForAllValues:StringNotEquals": {"aws:CalledVia": ["cloudformation.amazonaws.com"]}}
    assert not any("secretsmanager" in action for action in BY_SID["NoData"]["Action"])


def attached() -> Iterator[str]:
    """ARNs of the policies that roles of the templates are given, as far as they are written there."""
    for name in ("template.yaml", "mwaa.yaml"):
        for role in properties_of(load(name), "AWS::IAM::Role").values():
            yield from (item["Fn::Sub"] for item in role.get("ManagedPolicyArns", []) if "Fn::Sub" in item)


def test_roles_are_given_policies_of_the_pipelines_and_those_of_aws_that_the_templates_name() -> None:
    giving = BY_SID["GiveRolesPolicies"]
    assert set(giving["Action"]) == {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}
    assert set(giving["Condition"]) == {"ArnLike"}
    own = "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/pipelines-${Environment}-*"
    assert set(texts(giving["Condition"]["ArnLike"]["iam:PolicyARN"])) == {own, *attached()}
    others = [sid for sid, item in BY_SID.items() if item["Effect"] == "Allow" and sid != "GiveRolesPolicies"]
    assert not any(matches("iam:AttachRolePolicy", texts(BY_SID[sid]["Action"])) for sid in others)
    # CloudFormation names them after their stack, since they have no names of their own.
    for policy in properties_of(load("template.yaml"), "AWS::IAM::ManagedPolicy").values():
        assert "ManagedPolicyName" not in policy


def test_indexes_belong_to_their_tables() -> None:
    resources = texts(BY_SID["Tables"]["Resource"])
    indexed = [
        item
        for item in properties_of(load("template.yaml"), "AWS::DynamoDB::Table").values()
        if "GlobalSecondaryIndexes" in item
    ]
    assert indexed
    for table in indexed:
        assert any(item.endswith(f":table/{table['TableName']['Fn::Sub']}/index/*") for item in resources)


def test_names_of_interface_endpoints_are_answered_from_a_zone_that_belongs_to_no_region() -> None:
    assert BY_SID["NamesOfEndpoints"]["Action"] == "route53:AssociateVPCWithHostedZone"
    assert "Condition" not in BY_SID["NamesOfEndpoints"], "the region of a call to Route 53 is not that of the network"


def test_nested_stacks_are_made_and_changed_by_their_names_alone() -> None:
    """They are named after the application's stack; that one is changed by change sets only."""
    nested = "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/pipelines-${Environment}-*"
    assert texts(BY_SID["NestedStacks"]["Resource"]) == [nested]
    assert nested in texts(BY_SID["Stacks"]["Resource"]), "their resources are read to find out what has changed"


def test_stacks_may_be_tagged_as_sam_tags_its_own() -> None:
    assert "cloudformation:TagResource" in BY_SID["Stacks"]["Action"]
    assert any("aws-sam-cli-managed-default" in item for item in texts(BY_SID["Stacks"]["Resource"]))
