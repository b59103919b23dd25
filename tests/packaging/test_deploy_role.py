"""The role that deploys may do what CloudFormation does on its behalf, and gives no role what the pipelines lack."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest

from infra.release.templates import NESTED, refusals
from tests.packaging.policies import Context, allows, resolved
from tests.worlds.templates import INFRA, load, properties_of, statements, texts

BY_SID = {
    statement["Sid"]: statement for owner, statement in statements(load("deploy-role.yaml")) if owner != "Boundary"
}

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
        "dynamodb:ImportTable": "the same",
        "dynamodb:*TableReplica": "the same",
        "dynamodb:DeleteTable": "tables outlive their stack",
        "dynamodb:*teResourcePolicy": "no table has a policy of its own",
        "dynamodb:PutResourcePolicy": "the same",
        "dynamodb:EnableKinesis*": "no table sends its changes to a stream of Kinesis",
        "dynamodb:DisableKinesis*": "the same",
        "dynamodb:UpdateKinesis*": "the same",
        "kinesis:*": "the same",
        "kms:*": "the key is DynamoDB's own in the account, whose policy lets it be used through DynamoDB",
        "logs:*LogStream*": "no table is imported, of which there would be a log",
        "logs:PutLogEvents": "the same",
        "s3:GetObjectMetadata": "the same",
    },
    "AWS::EC2::EIP": {
        "ec2:AcceptAddressTransfer": "no address comes from another account",
        "ec2:AssociateAddress": "addresses belong to NAT gateways",
    },
    "AWS::EC2::NatGateway": {"ec2:*NatGatewayAddress": "each has one address"},
    "AWS::EC2::Subnet": {"ec2:*SubnetCidrBlock": "no subnet has a second range of addresses"},
    "AWS::EC2::VPC": {
        "ec2:*VpcEncryptionControl": "the network has none",
        "ec2:ModifyVpcTenancy": "the network runs no machine of its own",
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
    "AWS::IAM::Role": {"iam:DeleteRolePermissionsBoundary": "every role keeps its boundary"},
    "AWS::Lambda::Function": {
        "elasticfilesystem:*": "no function has a file system",
        "s3files:*": "the same",
        "kms:*": "variables and code are encrypted by keys of Lambda's own",
        "lambda:*CodeSigningConfig": "code is not signed",
        "lambda:PassCapacityProvider": "no function names one",
        "lambda:PublishVersion": "functions have no versions",
        "lambda:Put[FR]*": "concurrency aside, functions have the defaults",
    },
    "AWS::Logs::LogGroup": {
        "firehose:TagDeliveryStream": "logs are delivered nowhere",
        "logs:*KmsKey": "logs are encrypted by a key of CloudWatch's own",
        "logs:*BearerTokenAuthentication": "logs are written by AWS's own means",
        "logs:DeleteDataProtectionPolicy": "no group has one",
        "logs:PutDataProtectionPolicy": "the same",
        "logs:DeleteIndexPolicy": "no group has one",
        "logs:PutIndexPolicy": "the same",
        "logs:DeleteResourcePolicy": "API Gateway's delivery of logs puts one and leaves it there",
        "logs:PutLogGroupDeletionProtection": "logs are deleted with their stack",
        "s3:REST.PUT.OBJECT": "logs are delivered nowhere",
    },
    "AWS::MWAA::Environment": {
        "iam:ListRoles": "the console's, for its lists to choose from",
        "s3:ListAllMyBuckets": "the same",
        "kms:CreateGrant": "the environment's key is AWS's own",
        "kms:ListAliases": "the console's, for its lists to choose from",
    },
    "AWS::S3::Bucket": {
        "s3tables:*": "no bucket keeps tables on its objects",
        "s3:*BucketMetadata*": "the same",
        "s3:PutBucketAbac": "access to buckets is decided by their names",
        "s3:PutBucketAcl": "buckets have no access lists",
        "s3:PutObjectAcl": "the same",
        "s3:*Cors": "no web page reads a bucket",
        "s3:PutBucketCORS": "the same",
        "s3:*BucketWebsite": "no bucket is a web site",
        "s3:PutBucketLogging": "no bucket logs to another",
        "s3:PutBucketNotification": "files are found by listing",
        "s3:*BucketReplication": "no bucket is copied",
        "s3:PutReplicationConfiguration": "the same",
        "s3:DeleteBucketAnalyticsConfiguration": "what buckets do not have is not deleted",
        "s3:DeleteBucketEncryption": "every bucket keeps its encryption",
        "s3:DeleteBucketLifecycle": "every bucket keeps a lifecycle",
        "s3:DeleteBucketMetricsConfiguration": "as for analytics",
        "s3:PutA*Configuration": "no bucket has acceleration, analytics, tiers, an inventory or metrics",
        "s3:PutI*Configuration": "the same",
        "s3:PutMetricsConfiguration": "the same",
        "s3:PutObjectLockConfiguration": "no bucket has a default retention",
    },
    "AWS::SNS::Topic": {"sns:PutDataProtectionPolicy": "the topic has none"},
    "AWS::SQS::Queue": {"sqs:DeleteQueue": "queues outlive their stack"},
    "AWS::SecretsManager::Secret": {
        "secretsmanager:RemoveRegionsFromReplication": "no secret is copied to other regions",
        "secretsmanager:ReplicateSecretToRegions": "the same",
    },
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


def allowed_actions() -> list[str]:
    """Patterns of the actions that the deploying role is allowed."""
    return [action for item in BY_SID.values() if item["Effect"] == "Allow" for action in texts(item["Action"])]


@pytest.mark.parametrize("kind", sorted(deployed()))
def test_cloudformation_may_do_for_a_resource_what_it_has_to(kind: str) -> None:
    needed = {action for action in handled()[kind] if not matches(action, list(IN_NO_USE.get(kind, {})))}
    assert needed, "the test would prove nothing"
    assert {action for action in needed if not matches(action, allowed_actions())} == set()


def test_what_is_said_to_be_in_no_use_is_not_given_and_would_be_missed_otherwise() -> None:
    for kind, unused in IN_NO_USE.items():
        for pattern in unused:
            meant = {action for action in handled()[kind] if matches(action, [pattern])}
            assert meant, f"{kind}: {pattern}"
            lacking = {item for item in meant if not matches(item, allowed_actions())}
            assert lacking, f"{kind}: {pattern} needs no excuse"


def attached() -> Iterator[str]:
    """ARNs of the policies that roles of the templates are given, as far as they are written there."""
    for name in ("template.yaml", "mwaa.yaml"):
        for role in properties_of(load(name), "AWS::IAM::Role").values():
            yield from (item["Fn::Sub"] for item in role.get("ManagedPolicyArns", []) if "Fn::Sub" in item)


def test_roles_are_given_policies_of_the_pipelines_and_those_of_aws_that_the_templates_name() -> None:
    giving = BY_SID["GiveRolesPolicies"]
    assert set(giving["Action"]) == {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}
    assert set(giving["Condition"]) == {"ArnLike", "StringEquals"}
    own = "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/pipelines-${Environment}-*"
    assert set(texts(giving["Condition"]["ArnLike"]["iam:PolicyARN"])) == {own, *attached()}
    others = [sid for sid, item in BY_SID.items() if item["Effect"] == "Allow" and sid != "GiveRolesPolicies"]
    assert not any(matches("iam:AttachRolePolicy", texts(BY_SID[sid]["Action"])) for sid in others)
    # CloudFormation names them after their stack, since they have no names of their own.
    for policy in properties_of(load("template.yaml"), "AWS::IAM::ManagedPolicy").values():
        assert "ManagedPolicyName" not in policy


SOMEBODY = {
    "GitHubRepository": ("GitHubDeploys", "acme/pipelines"),
    "DeliveryAccountId": ("PipelineDeploys", "1" * 12),
    "DeployerArn": ("PersonDeploys", f"arn:aws:iam::{'1' * 12}:role/aws-reserved/sso.amazonaws.com/Operators_1a"),
}
"""Who may take the role: by the parameter that names one, the statement that lets it, and a value."""


@pytest.mark.parametrize("given", [*SOMEBODY, None])
def test_role_can_be_taken_by_each_that_a_parameter_names_alone_and_must_be_by_somebody(given: str | None) -> None:
    template = load("deploy-role.yaml")
    document = template["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]
    lets = {
        statement["Sid"]: condition for condition, statement, _ in (item["Fn::If"] for item in document["Statement"])
    }
    assert set(lets) == {sid for sid, _ in SOMEBODY.values()}
    chosen = {given: SOMEBODY[given][1]} if given else {}
    # GitHub may deploy dev alone; the others any environment.
    environments = ["dev"] if given == "GitHubRepository" else ["dev", "staging", "prod"]
    for environment in environments:
        refused = list(refusals(template, {"Environment": environment, **chosen}))
        assert bool(refused) is (given is None), refused
    for name, (sid, _) in SOMEBODY.items():
        assert template["Conditions"][lets[sid]] == {"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]}


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


ACCOUNT = "1" * 12
VALUES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": ACCOUNT,
    "Environment": "staging",
    "AccessKeyParameters": "/copyazure/*",
}
BY_CLOUDFORMATION: Context = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
OURS: Context = {**BY_CLOUDFORMATION, "aws:ResourceTag/pipelines": "staging"}
OF_PROD: Context = {**BY_CLOUDFORMATION, "aws:ResourceTag/pipelines": "prod"}
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary-pipelines-staging"
BOUNDED: Context = {**BY_CLOUDFORMATION, "iam:PermissionsBoundary": BOUNDARY}


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{rest}"


def document(*owners: str) -> list[dict[str, Any]]:
    """Statements of policies of the template, as they hold for staging."""
    return [resolved(item, VALUES) for owner, item in statements(load("deploy-role.yaml")) if owner in owners]


def deploying() -> list[dict[str, Any]]:
    """What the deploying role has."""
    given = load("deploy-role.yaml")["Resources"]["Role"]["Properties"]["ManagedPolicyArns"]
    return document(*(item["Ref"] for item in given))


ARCHIVE = f"arn:aws:s3:::dex-trigger-archive-staging-{ACCOUNT}"
KEY = arn("kms", "key/11111111-2222-3333-4444-555555555555")
TABLE = arn("dynamodb", "table/events-staging")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/pipelines-staging-Auction-AuctionOrderRole-1A2B3C"
OTHERS_TABLE = arn("dynamodb", "table/payroll")
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"

REFUSED: list[tuple[str, str, Context]] = [
    # What a template could ask for, which CloudFormation would do as whoever deploys.
    ("dynamodb:DeleteTable", TABLE, BY_CLOUDFORMATION),
    ("dynamodb:ExportTableToPointInTime", TABLE, BY_CLOUDFORMATION),
    ("dynamodb:PutResourcePolicy", TABLE, BY_CLOUDFORMATION),
    ("dynamodb:GetItem", TABLE, BY_CLOUDFORMATION),
    ("dynamodb:UpdateTable", OTHERS_TABLE, BY_CLOUDFORMATION),
    ("dynamodb:UpdateTable", arn("dynamodb", "table/events-prod"), BY_CLOUDFORMATION),
    ("kms:ScheduleKeyDeletion", KEY, BY_CLOUDFORMATION),
    ("kms:ScheduleKeyDeletion", KEY, OF_PROD),
    ("kms:PutKeyPolicy", KEY, BY_CLOUDFORMATION),
    ("kms:Decrypt", KEY, OURS),
    ("s3:PutLifecycleConfiguration", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:PutBucketPolicy", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:PutBucketVersioning", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:DeleteBucket", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:GetObject", f"{ARCHIVE}/trigger/2026-11-21.json", {}),
    ("s3:DeleteObject", f"{ARCHIVE}/trigger/2026-11-21.json", {}),
    ("s3:PutReplicationConfiguration", f"arn:aws:s3:::order-results-staging-{ACCOUNT}", BY_CLOUDFORMATION),
    ("s3:PutBucketPolicy", "arn:aws:s3:::payroll", BY_CLOUDFORMATION),
    ("s3:PutBucketPolicy", f"arn:aws:s3:::order-results-prod-{ACCOUNT}", BY_CLOUDFORMATION),
    ("apigateway:PATCH", "arn:aws:apigateway:us-east-1::/restapis/theirs", BY_CLOUDFORMATION),
    ("apigateway:DELETE", "arn:aws:apigateway:us-east-1::/restapis/theirs", OF_PROD),
    ("ec2:DeleteVpc", arn("ec2", "vpc/vpc-1"), BY_CLOUDFORMATION),
    ("ec2:CreateSubnet", arn("ec2", "vpc/vpc-1"), BY_CLOUDFORMATION),
    ("ec2:CreateNatGateway", arn("ec2", "subnet/subnet-1"), BY_CLOUDFORMATION),
    ("ec2:AuthorizeSecurityGroupIngress", arn("ec2", "security-group/sg-1"), BY_CLOUDFORMATION),
    ("ec2:CreateRoute", arn("ec2", "route-table/rtb-1"), OF_PROD),
    ("ec2:RunInstances", arn("ec2", "instance/i-1"), OURS),
    ("lambda:InvokeFunction", arn("lambda", "function:auction-order"), BY_CLOUDFORMATION),
    ("lambda:AddPermission", arn("lambda", "function:orders-api"), {**BY_CLOUDFORMATION, "lambda:Principal": "*"}),
    ("lambda:UpdateFunctionCode", arn("lambda", "function:payroll"), BY_CLOUDFORMATION),
    ("sqs:ReceiveMessage", arn("sqs", "event-delivery-staging"), BY_CLOUDFORMATION),
    ("sqs:PurgeQueue", arn("sqs", "event-delivery-dlq-staging"), BY_CLOUDFORMATION),
    ("sqs:DeleteQueue", arn("sqs", "event-delivery-dlq-staging"), BY_CLOUDFORMATION),
    ("secretsmanager:PutResourcePolicy", arn("secretsmanager", "secret:airflow/connections/x"), BY_CLOUDFORMATION),
    ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:payroll-123456"), BY_CLOUDFORMATION),
    ("iam:CreateRole", ROLE, BY_CLOUDFORMATION),
    ("iam:CreateRole", ROLE, {**BY_CLOUDFORMATION, "iam:PermissionsBoundary": ADMINISTRATOR}),
    ("iam:PutRolePolicy", ROLE, BY_CLOUDFORMATION),
    ("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDED),
    ("iam:AttachRolePolicy", ROLE, {**BOUNDED, "iam:PolicyARN": ADMINISTRATOR}),
    ("iam:CreatePolicyVersion", BOUNDARY, BY_CLOUDFORMATION),
    ("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/deploy-pipelines-staging", BOUNDED),
    ("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/anybody", BY_CLOUDFORMATION),
    ("sts:AssumeRole", ROLE, {}),
    ("cloudformation:DeleteStack", arn("cloudformation", "stack/pipelines-staging/1"), {}),
    ("cloudformation:CreateChangeSet", arn("cloudformation", "stack/deploy-pipelines-staging/1"), {}),
    (
        "cloudformation:CreateChangeSet",
        arn("cloudformation", "stack/pipelines-staging/1"),
        {"cloudformation:ImportResourceTypes": ["AWS::EC2::VPC"]},
    ),
    # The same rights by a call of its own.
    ("kms:TagResource", KEY, {}),
    ("kms:ScheduleKeyDeletion", KEY, {"aws:ResourceTag/pipelines": "staging"}),
    ("ec2:CreateTags", arn("ec2", "vpc/vpc-1"), {}),
    ("ec2:ModifyVpcAttribute", arn("ec2", "vpc/vpc-1"), {}),
    ("s3:PutBucketPolicy", f"arn:aws:s3:::order-results-staging-{ACCOUNT}", {}),
    ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:airflow/connections/dex_db-123456"), {}),
    ("secretsmanager:UpdateSecret", arn("secretsmanager", "secret:orders-api/jwt-123456"), {}),
    ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:events-api/event-ids-123456"), {}),
    ("lambda:UpdateFunctionCode", arn("lambda", "function:orders-api"), {}),
    ("apigateway:PATCH", "arn:aws:apigateway:us-east-1::/apis/theirs", {}),
    ("iam:PutRolePolicy", ROLE, {"iam:PermissionsBoundary": BOUNDARY}),
    ("sqs:SetQueueAttributes", arn("sqs", "event-delivery-staging"), {}),
    ("dynamodb:UpdateTable", TABLE, {}),
]
"""Calls that no deployment needs: action, resource, condition keys."""

BUNDLE = f"arn:aws:s3:::pipelines-mwaa-staging-{ACCOUNT}"
PERFORMED: list[tuple[str, str, Context]] = [
    # By make deploy and by SAM themselves.
    *(
        (f"cloudformation:{action}", arn("cloudformation", f"stack/{stack}/1"), {})
        for action in ("DescribeStacks", "CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "GetTemplate")
        for stack in ("pipelines-staging", "pipelines-mwaa-staging", "aws-sam-cli-managed-default")
    ),
    ("cloudformation:DescribeStackResources", arn("cloudformation", "stack/pipelines-staging-Auction-1A/1"), {}),
    ("cloudformation:DescribeStacks", arn("cloudformation", "stack/pipelines-dev/1"), {}),
    ("cloudformation:DescribeStacks", arn("cloudformation", "stack/pipelines-prod/1"), {}),
    ("s3:ListBucket", BUNDLE, {}),
    ("s3:PutObject", f"{BUNDLE}/plugins.zip", {}),
    ("s3:GetObject", f"{BUNDLE}/requirements.txt", {}),
    ("s3:DeleteObject", f"{BUNDLE}/dags/old.py", {}),
    ("s3:PutObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1/pipelines-staging/1", {}),
    ("airflow:GetEnvironment", arn("airflow", "environment/pipelines-staging"), {}),
    ("logs:FilterLogEvents", arn("logs", "log-group:airflow-pipelines-staging-Scheduler:*"), {}),
    # By CloudFormation for it.
    ("s3:CreateBucket", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:PutBucketTagging", ARCHIVE, BY_CLOUDFORMATION),
    ("s3:PutBucketPolicy", BUNDLE, BY_CLOUDFORMATION),
    ("dynamodb:CreateTable", TABLE, BY_CLOUDFORMATION),
    ("dynamodb:UpdateTable", f"{TABLE}/index/by-owner", BY_CLOUDFORMATION),
    ("kms:CreateKey", "*", BY_CLOUDFORMATION),
    ("kms:TagResource", KEY, BY_CLOUDFORMATION),
    ("kms:PutKeyPolicy", KEY, OURS),
    ("sqs:CreateQueue", arn("sqs", "call-details-dlq-staging"), BY_CLOUDFORMATION),
    ("sns:Subscribe", arn("sns", "pipelines-alerts-staging"), BY_CLOUDFORMATION),
    ("secretsmanager:CreateSecret", arn("secretsmanager", "secret:airflow/connections/dex_db-1"), BY_CLOUDFORMATION),
    ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:orders-api/jwt-123456"), BY_CLOUDFORMATION),
    ("secretsmanager:CreateSecret", arn("secretsmanager", "secret:events-api/event-ids-123456"), BY_CLOUDFORMATION),
    ("lambda:UpdateFunctionCode", arn("lambda", "function:orders-api"), BY_CLOUDFORMATION),
    (
        "lambda:AddPermission",
        arn("lambda", "function:orders-api"),
        {**BY_CLOUDFORMATION, "lambda:Principal": "apigateway.amazonaws.com"},
    ),
    ("apigateway:POST", "arn:aws:apigateway:us-east-1::/restapis", BY_CLOUDFORMATION),
    ("apigateway:PUT", "arn:aws:apigateway:us-east-1::/restapis/ours/resources/1/methods/POST", OURS),
    ("apigateway:POST", "arn:aws:apigateway:us-east-1::/apis/ours/routes", BY_CLOUDFORMATION),
    ("ec2:CreateVpc", arn("ec2", "vpc/vpc-1"), BY_CLOUDFORMATION),
    ("ec2:CreateTags", arn("ec2", "vpc/vpc-1"), BY_CLOUDFORMATION),
    ("ec2:ModifyVpcAttribute", arn("ec2", "vpc/vpc-1"), BY_CLOUDFORMATION),
    ("ec2:CreateSubnet", arn("ec2", "vpc/vpc-1"), OURS),
    ("ec2:CreateSubnet", arn("ec2", "subnet/subnet-1"), BY_CLOUDFORMATION),
    ("ec2:CreateVpcEndpoint", arn("ec2", "vpc-endpoint/vpce-1"), BY_CLOUDFORMATION),
    ("ec2:CreateVpcEndpoint", arn("ec2", "route-table/rtb-1"), OURS),
    ("ec2:AuthorizeSecurityGroupIngress", arn("ec2", "security-group/sg-1"), OURS),
    ("ec2:AuthorizeSecurityGroupIngress", arn("ec2", "security-group-rule/sgr-1"), BY_CLOUDFORMATION),
    ("iam:CreateRole", ROLE, BOUNDED),
    ("iam:PutRolePolicy", ROLE, BOUNDED),
    (
        "iam:AttachRolePolicy",
        ROLE,
        {**BOUNDED, "iam:PolicyARN": f"arn:aws:iam::{ACCOUNT}:policy/pipelines-staging-Archive-1A"},
    ),
    ("iam:PassRole", ROLE, {**BY_CLOUDFORMATION, "iam:PassedToService": "lambda.amazonaws.com"}),
    ("airflow:UpdateEnvironment", arn("airflow", "environment/pipelines-staging"), BY_CLOUDFORMATION),
    ("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:pipelines-staging-orders-api-slow"), BY_CLOUDFORMATION),
    ("logs:PutRetentionPolicy", arn("logs", "log-group:/aws/lambda/orders-api"), BY_CLOUDFORMATION),
]


@pytest.mark.parametrize(("action", "resource", "context"), REFUSED)
def test_call_that_no_deployment_needs_is_refused(action: str, resource: str, context: Context) -> None:
    assert not allows(deploying(), action, resource, context)


@pytest.mark.parametrize(("action", "resource", "context"), PERFORMED)
def test_call_of_a_deployment_is_allowed(action: str, resource: str, context: Context) -> None:
    assert allows(deploying(), action, resource, context)


def test_first_deployment_gives_the_archive_its_policy_and_lifecycle_before_a_person_seals_it() -> None:
    unsealed = [item for item in deploying() if item["Sid"] != "EvidenceStays"]
    for action in ("s3:PutBucketPolicy", "s3:PutLifecycleConfiguration", "s3:PutBucketVersioning"):
        assert allows(unsealed, action, ARCHIVE, BY_CLOUDFORMATION)
        assert not allows(unsealed, action, ARCHIVE, {})
    own = load("deploy-role.yaml")
    assert own["Conditions"]["EvidenceIsSealed"] == {"Fn::Equals": [{"Ref": "EvidenceSealed"}, "true"]}


def test_every_role_of_the_templates_has_the_boundary() -> None:
    for name in ("template.yaml", "mwaa.yaml"):
        for role in properties_of(load(name), "AWS::IAM::Role").values():
            assert resolved(role["PermissionsBoundary"], VALUES) == BOUNDARY
    assert resolved(load("deploy-role.yaml")["Resources"]["Boundary"]["Properties"]["ManagedPolicyName"], VALUES) == (
        "boundary-pipelines-staging"
    )


ARNS = {
    "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{}"),
    "AWS::DynamoDB::Table": ("TableName", arn("dynamodb", "table/{}")),
    "AWS::SQS::Queue": ("QueueName", arn("sqs", "{}")),
    "AWS::SNS::Topic": ("TopicName", arn("sns", "{}")),
    "AWS::Lambda::Function": ("FunctionName", arn("lambda", "function:{}")),
    "AWS::SecretsManager::Secret": ("Name", arn("secretsmanager", "secret:{}-a1b2c3")),
    "AWS::Logs::LogGroup": ("LogGroupName", arn("logs", "log-group:{}:*")),
}
"""How the resources' ARNs are made of their names, by type."""


def known(name: str) -> dict[str, str]:
    """Values of a template's references, as far as its policies use them."""
    template = load(name)
    values = {**VALUES, "AlertsKey.Arn": KEY}
    for parameter, item in template["Parameters"].items():
        values.setdefault(parameter, str(item.get("Default", "")))
    for resource, item in template["Resources"].items():
        if item["Type"] in ARNS:
            key, form = ARNS[item["Type"]]
            found = form.format(resolved(item["Properties"][key], values))
            values |= {resource: found, f"{resource}.Arn": found}
    return values


@pytest.mark.parametrize("name", ["template.yaml", "mwaa.yaml"])
def test_boundary_allows_what_the_roles_of_the_templates_may(name: str) -> None:
    boundary, tried = document("Boundary"), 0
    values = known(name)
    context = {"kms:ViaService": ["sns.us-east-1.amazonaws.com", "sqs.us-east-1.amazonaws.com"]}
    for _, item in statements({"Resources": _rights(load(name))}):
        resources = texts(resolved(item.get("Resource", "*"), values))
        for action in texts(item["Action"]):
            for resource in resources:
                tried += 1
                # A wildcard of a role is tried as it stands: one that reaches further than the boundary's matches none.
                assert allows(boundary, action, resource, context), f"{item['Sid']}: {action} on {resource}"
    assert tried > 10


def _rights(template: dict[str, Any]) -> dict[str, Any]:
    kinds = ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
    return {
        name: {"Policies": item["Properties"].get("Policies", item["Properties"].get("PolicyDocument", []))}
        for name, item in template["Resources"].items()
        if item["Type"] in kinds
    }


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:CreateRole", ROLE),
        ("sts:AssumeRole", ROLE),
        ("iam:AttachRolePolicy", ROLE),
        ("s3:PutBucketPolicy", ARCHIVE),
        ("s3:DeleteObject", f"{ARCHIVE}/trigger/2026-11-21.json"),
        ("s3:DeleteObjectVersion", f"{ARCHIVE}/trigger/2026-11-21.json"),
        ("s3:BypassGovernanceRetention", f"{ARCHIVE}/trigger/2026-11-21.json"),
        ("s3:PutObject", f"{BUNDLE}/dags/anything.py"),
        ("s3:GetObject", "arn:aws:s3:::payroll/2026.csv"),
        ("dynamodb:DeleteTable", TABLE),
        ("dynamodb:GetItem", OTHERS_TABLE),
        ("dynamodb:ExportTableToPointInTime", TABLE),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:payroll-123456")),
        ("kms:Decrypt", KEY),
        ("lambda:InvokeFunction", arn("lambda", "function:payroll")),
        ("ec2:RunInstances", arn("ec2", "instance/i-1")),
    ],
)
def test_role_of_the_pipelines_whatever_policy_it_is_given_is_kept_from_the_rest(action: str, resource: str) -> None:
    assert not allows(document("Boundary"), action, resource, {})
