"""Policies of the environment, the delivery and whoever deploys: every wildcard has its reason beside it."""

import json
from typing import Any

import pytest

from infra.release.deployment.target import FROM_THE_APPLICATION
from tests.packaging.template import read_template
from tests.worlds.templates import load, properties_of, statements, texts

TEMPLATES = ["mwaa.yaml", "pipeline.yaml", "deploy-role.yaml"]
KEYS_OF_ONE_BUCKET = "Bucket.Arn}/*"
"""How a resource ends that needs no reason: the objects of a bucket of the template's own."""

MAX_MANAGED_POLICY = 6144
"""IAM's limit, in characters without white space."""

NAMES_OF_AWS = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "1" * 12,
    "Environment": "staging",
    "AccessKeyParameters": "/copyazure/*",
    "AWS::NoValue": "",
}


def sids_with_wildcards(template: dict[str, Any]) -> set[str]:
    found = set()
    for name, statement in statements(template):
        if statement["Effect"] != "Allow":
            continue
        resources = texts(statement.get("Resource", statement.get("NotResource", [])))
        wide = [item for item in resources if "*" in item and not item.endswith(KEYS_OF_ONE_BUCKET)]
        if wide or any("*" in action for action in texts(statement["Action"])):
            found.add(f"{name}/{statement['Sid']}")
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_wildcard_that_allows_has_its_reason_in_the_template_and_every_reason_its_wildcard(name: str) -> None:
    template = load(name)
    reasons = template["Metadata"]["Wildcards"]
    assert sids_with_wildcards(template) == set(reasons)
    assert all(len(reason) > 20 for reason in reasons.values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_statements_have_names_and_none_allows_everything_or_everybody(name: str) -> None:
    found = list(statements(load(name)))
    assert found
    for owner, statement in found:
        assert statement.get("Sid"), owner
        assert "*" not in texts(statement["Action"])
        if statement["Effect"] == "Allow":
            assert statement.get("Principal") not in ("*", {"AWS": "*"})


@pytest.mark.parametrize("name", TEMPLATES)
def test_services_take_a_role_for_this_account_only(name: str) -> None:
    for owner, statement in statements(load(name)):
        if "Principal" in statement and "Service" in statement["Principal"] and "sts:AssumeRole" in statement["Action"]:
            condition = statement["Condition"]["StringEquals"]
            assert condition == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}, owner


@pytest.mark.parametrize("name", ["mwaa.yaml", "pipeline.yaml"])
def test_bucket_refuses_requests_without_tls(name: str) -> None:
    (policy,) = properties_of(load(name), "AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    bucket = policy["Bucket"]["Ref"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert texts(statement["Resource"]) == [f"{bucket}.Arn", f"${{{bucket}.Arn}}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_airflow_has_the_policies_of_the_application_and_one_of_its_own() -> None:
    role = load("mwaa.yaml")["Resources"]["ExecutionRole"]["Properties"]
    given = [f"{name}Arn" for name in properties_of(read_template(), "AWS::IAM::ManagedPolicy")]
    assert sorted(item["Ref"] for item in role["ManagedPolicyArns"]) == sorted(given)
    assert {*given, "AlertsTopicArn"} == set(FROM_THE_APPLICATION) <= set(read_template()["Outputs"])
    own = {
        statement["Sid"]: statement for owner, statement in statements(load("mwaa.yaml")) if owner == "ExecutionRole"
    }
    actions = {action for statement in own.values() for action in texts(statement["Action"])}
    writes = {action for action in actions if action.startswith("s3:") and not action.startswith(("s3:Get", "s3:List"))}
    assert writes == set(), "what it runs is put there by deployments alone"
    assert not any(action.startswith(("secretsmanager:", "dynamodb:", "lambda:", "iam:")) for action in actions)
    assert own["MwaaRunsAirflow"]["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"].endswith(
        ":environment/pipelines-${Environment}"
    )


def test_tests_of_the_delivery_may_take_no_role() -> None:
    delivery = load("pipeline.yaml")
    takers = {owner for owner, statement in statements(delivery) if _takes_roles(statement)}
    assert takers == {"DevRole", "StagingRole", "ProdRole"}
    assert delivery["Resources"]["TestProject"]["Properties"]["ServiceRole"] == {"Fn::GetAtt": "TestRole.Arn"}


def _takes_roles(statement: dict[str, Any]) -> bool:
    return "sts:AssumeRole" in texts(statement["Action"]) and "Principal" not in statement


def test_github_deploys_from_two_branches_and_nothing_else() -> None:
    trust = {item["Sid"]: item for owner, item in statements(load("deploy-role.yaml")) if owner == "Role"}
    assert set(trust) == {"GitHubDeploys", "PipelineDeploys", "PersonDeploys"}
    condition = trust["GitHubDeploys"]["Condition"]
    assert set(condition) == {"StringEquals"}, "a pattern would let pull requests in"
    claims = condition["StringEquals"]
    assert claims["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert texts(claims["token.actions.githubusercontent.com:sub"]) == [
        f"repo:${{GitHubRepository}}:ref:refs/heads/{branch}" for branch in ("main", "master")
    ]
    (rule,) = load("deploy-role.yaml")["Rules"]["GitHubDeploysDevAlone"]["Assertions"]
    assert rule["Assert"] == {
        "Fn::Or": [{"Fn::Equals": [{"Ref": "GitHubRepository"}, ""]}, {"Fn::Equals": [{"Ref": "Environment"}, "dev"]}]
    }


def test_whoever_deploys_cannot_change_his_own_role_nor_read_data() -> None:
    own = load("deploy-role.yaml")
    name = own["Resources"]["Role"]["Properties"]["RoleName"]["Fn::Sub"]
    by_sid = {item["Sid"]: item for _, item in statements(own)}
    for sid in ("Roles", "RolesWithinTheBoundary", "GiveRolesPolicies", "HandRolesOver"):
        for resource in texts(by_sid[sid]["Resource"]):
            prefix = resource.rpartition("/")[2].removesuffix("*")
            assert not name.startswith(prefix), resource
    buckets = texts(by_sid["Buckets"]["Resource"])
    assert not any("/" in item for item in buckets), "objects are no part of it"


def test_whoever_deploys_may_change_all_that_the_application_names() -> None:
    allowed = {
        resource
        for _, statement in statements(load("deploy-role.yaml"))
        for resource in texts(statement.get("Resource", []))
    }
    for kind, prefix, key in (
        ("AWS::S3::Bucket", "", "BucketName"),
        ("AWS::DynamoDB::Table", "table/", "TableName"),
        ("AWS::SQS::Queue", "", "QueueName"),
        ("AWS::SNS::Topic", "", "TopicName"),
        ("AWS::Lambda::Function", "", "FunctionName"),
    ):
        for item in properties_of(read_template(), kind).values():
            (name,) = texts(item[key])
            assert any(resource.endswith(f":{prefix}{name}") for resource in allowed), name


@pytest.mark.parametrize("name", ["ApplicationPolicy", "WatchPolicy", "NetworkPolicy", "EnvironmentPolicy", "Boundary"])
def test_policy_of_whoever_deploys_fits_into_iam_s_limit(name: str) -> None:
    document = load("deploy-role.yaml")["Resources"][name]["Properties"]["PolicyDocument"]
    text = json.dumps(_resolved(document), separators=(",", ":"))
    assert "${" not in text
    assert len(text) < MAX_MANAGED_POLICY


def _resolved(part: Any) -> Any:
    if isinstance(part, dict):
        if set(part) == {"Fn::Sub"}:
            text = part["Fn::Sub"]
            for name, value in NAMES_OF_AWS.items():
                text = text.replace(f"${{{name}}}", value)
            return text
        if set(part) == {"Ref"}:
            return NAMES_OF_AWS[part["Ref"]]
        return {key: _resolved(value) for key, value in part.items()}
    return [_resolved(item) for item in part] if isinstance(part, list) else part
