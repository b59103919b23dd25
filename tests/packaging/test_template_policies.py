"""Who may do what, as the application template has it: nobody more than he needs."""

import json
import re
from typing import Any

import pytest

from tests.packaging.template import as_list, of_type, properties_of, read_template, resource, statements, statements_of

ALLOWED_WILDCARDS = {
    ("AlertsKey", "AccountAdministersTheKey"): "a key policy must leave the key to its account; '*' is this key",
    ("AlertsKey", "AlarmsEncryptTheirMessages"): "in a key policy '*' is this key",
    ("PipelinePolicy", "PublishMetrics"): "PutMetricData knows no resources; a condition names the namespace",
}
"""Statements that may allow ``*`` as a resource or within an action, each with the reason."""

KEYS_BELOW_A_PREFIX = re.compile(r"\$\{\w+Bucket\.Arn\}/(?:(?:[a-z-]+/)+|\$\{IncomingPrefix\})\*")
"""The only resources with a ``*`` in them that need no reason: keys are made of dates and ids."""

ALLOWED_MANAGED_POLICIES = {
    "ApiGatewayLogsRole": [
        # API Gateway refuses a role that lacks any of its actions.
        {"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"}
    ]
}
"""Policies of AWS, which may hold any wildcard, by the role that has them."""

MAY = {
    "AuctionResultsRole": set(),
    "AuctionOrderRole": {("s3:PutObject", "${OrderResultsBucket.Arn}/orders/*")},
    "OrdersApiRole": {("dynamodb:BatchWriteItem", "OrdersTable.Arn")},
    "OrdersApiAuthorizerRole": {("secretsmanager:GetSecretValue", "OrdersJwtSecret")},
    "EventsApiFunctionRole": {
        ("dynamodb:BatchGetItem", "EventsTable.Arn"),
        ("dynamodb:DeleteItem", "EventsTable.Arn"),
        ("dynamodb:PutItem", "EventsTable.Arn"),
        ("dynamodb:UpdateItem", "EventsTable.Arn"),
        ("dynamodb:Query", "${EventsTable.Arn}/index/by-owner"),
        ("dynamodb:Query", "${EventsTable.Arn}/index/by-owner-status"),
        ("dynamodb:Query", "${EventsTable.Arn}/index/by-idempotency-key"),
        ("secretsmanager:GetSecretValue", "EventIdsSecret"),
        ("sqs:SendMessage", "EventQueue.Arn"),
    },
    "EventsApiAuthorizerFunctionRole": {
        ("dynamodb:GetItem", "ApiKeysTable.Arn"),
        # Of two attributes only: see test_template_events_api.py.
        ("dynamodb:UpdateItem", "ApiKeysTable.Arn"),
    },
}
"""All that a function may do beside writing its log: action and resource."""

ALL_PIPELINES_MAY = {
    ("secretsmanager:GetSecretValue", "SettingsSecret"),
    ("secretsmanager:GetSecretValue", "SlackAlertsSecret"),
    ("sns:Publish", "AlertsTopic"),
    ("kms:Decrypt", "AlertsKey.Arn"),
    ("kms:GenerateDataKey", "AlertsKey.Arn"),
    ("cloudwatch:PutMetricData", "*"),
}
"""What every pipeline does: read its settings, publish alerts and metrics."""

ARCHIVE_MAY = {
    ("secretsmanager:GetSecretValue", "DexDbSecret"),
    ("secretsmanager:GetSecretValue", "DexApiSecret"),
    ("s3:GetObject", "${ArchiveBucket.Arn}/trigger/*"),
    ("s3:PutObject", "${ArchiveBucket.Arn}/trigger/*"),
    ("s3:GetObject", "${ArchiveBucket.Arn}/manifests/*"),
    ("s3:PutObject", "${ArchiveBucket.Arn}/manifests/*"),
    ("s3:GetObject", "${ArchiveBucket.Arn}/ledger/*"),
    ("s3:PutObject", "${ArchiveBucket.Arn}/ledger/*"),
    ("s3:PutObjectRetention", "${ArchiveBucket.Arn}/trigger/*"),
    ("s3:PutObjectRetention", "${ArchiveBucket.Arn}/manifests/*"),
    ("s3:PutObjectRetention", "${ArchiveBucket.Arn}/ledger/*"),
    ("s3:GetObject", "${ArchiveBucket.Arn}/runs/*"),
    ("s3:PutObject", "${ArchiveBucket.Arn}/runs/*"),
    ("s3:ListBucket", "ArchiveBucket.Arn"),
    ("s3:ListBucketVersions", "ArchiveBucket.Arn"),
    ("s3:GetObjectVersion", "${ArchiveBucket.Arn}/trigger/*"),
    ("s3:GetObjectVersion", "${ArchiveBucket.Arn}/manifests/*"),
}

AUCTION_MAY = {
    ("s3:GetObject", "${OrderResultsBucket.Arn}/summaries/*"),
    ("s3:PutObject", "${OrderResultsBucket.Arn}/summaries/*"),
    ("s3:GetObject", "${OrderResultsBucket.Arn}/runs/*"),
    ("s3:PutObject", "${OrderResultsBucket.Arn}/runs/*"),
    *((f"s3:{action}Object", "${OrderResultsBucket.Arn}/alerts/undelivered/*") for action in ("Get", "Put", "Delete")),
    ("s3:ListBucket", "OrderResultsBucket.Arn"),
    ("lambda:InvokeFunction", "AuctionResultsFunction.Arn"),
    ("lambda:InvokeFunction", "AuctionOrderFunction.Arn"),
}
"""What the auction may do with its bucket and functions: it deletes no order and no summary, and lists no functions."""

FILES_MAY = {
    "GetObject": {"incoming", "processing", "processed", "failed", "plans", "receipts", "dead-letter"},
    "GetObjectVersion": {"incoming", "processing", "failed", "dead-letter"},
    "PutObject": {"processing", "processed", "failed", "plans", "receipts", "dead-letter"},
    "DeleteObject": {"incoming", "processing", "failed"},
    "GetObjectTagging": {"incoming", "processing", "processed", "failed"},
    "GetObjectVersionTagging": {"incoming", "processing", "processed", "failed"},
    "PutObjectTagging": {"incoming", "processing", "processed", "failed"},
}
"""What the ingest may do below which prefixes: it moves files on, and deletes no version, result or receipt."""

PARAMETER = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter"

INGEST_MAY = {
    ("secretsmanager:GetSecretValue", "CallDetailsApiSecret"),
    *(
        (f"s3:{action}", f"${{IngestBucket.Arn}}/{'${IncomingPrefix}' if prefix == 'incoming' else f'{prefix}/'}*")
        for action, prefixes in FILES_MAY.items()
        for prefix in prefixes
    ),
    ("s3:ListBucket", "IngestBucket.Arn"),
    ("s3:ListBucketVersions", "IngestBucket.Arn"),
    ("dynamodb:BatchGetItem", "IngestLedgerTable.Arn"),
    ("dynamodb:DeleteItem", "IngestLedgerTable.Arn"),
    ("dynamodb:GetItem", "IngestLedgerTable.Arn"),
    ("dynamodb:PutItem", "IngestLedgerTable.Arn"),
    ("dynamodb:Query", "IngestLedgerTable.Arn"),
    ("sqs:ChangeMessageVisibility", "CallDetailsDeadLetters.Arn"),
    ("sqs:DeleteMessage", "CallDetailsDeadLetters.Arn"),
    ("sqs:GetQueueAttributes", "CallDetailsDeadLetters.Arn"),
    ("sqs:ReceiveMessage", "CallDetailsDeadLetters.Arn"),
    ("sqs:SendMessage", "CallDetailsDeadLetters.Arn"),
    *(("ssm:GetParameters", f"{PARAMETER}${{CallDetails{which}KeyParameter}}") for which in ("Access", "Secret")),
}

DELIVERY_MAY = {
    ("dynamodb:Query", "${EventsTable.Arn}/index/by-status"),
    ("dynamodb:Query", "${EventsTable.Arn}/index/by-owner-status"),
    ("dynamodb:Query", "${EventsTable.Arn}/index/by-owner"),
    ("dynamodb:BatchGetItem", "EventsTable.Arn"),
    ("dynamodb:PartiQLUpdate", "EventsTable.Arn"),
    # Of lanes and batches only: see test_template_events_api.py.
    ("dynamodb:PutItem", "EventsTable.Arn"),
    ("dynamodb:UpdateItem", "EventsTable.Arn"),
    ("dynamodb:GetItem", "EventsTable.Arn"),
    ("dynamodb:GetItem", "SubscriptionsTable.Arn"),
    ("dynamodb:BatchGetItem", "SubscriptionsTable.Arn"),
    ("dynamodb:Scan", "SubscriptionsTable.Arn"),
    ("dynamodb:UpdateItem", "SubscriptionsTable.Arn"),
    ("sqs:DeleteMessage", "EventQueue.Arn"),
    ("sqs:ReceiveMessage", "EventQueue.Arn"),
    ("sqs:GetQueueAttributes", "EventDeadLetters.Arn"),
    ("sqs:SendMessage", "EventDeadLetters.Arn"),
}
"""What the delivery may do: it neither makes nor deletes events, and does not know the keys of the API."""

POLICIES = {
    "PipelinePolicy": ALL_PIPELINES_MAY,
    "ArchivePolicy": ARCHIVE_MAY,
    "AuctionPolicy": AUCTION_MAY,
    "CallDetailsPolicy": INGEST_MAY,
    "EventDeliveryPolicy": DELIVERY_MAY,
}
"""What Airflow's role may do, by policy."""

MAX_POLICY = 6144
"""IAM's limit for a managed policy, in characters without white space."""


def _resource(value: Any) -> str:
    """A resource of a statement as text: of a function of CloudFormation, its argument."""
    return next(iter(value.values())) if isinstance(value, dict) else value


def _pairs(statement: dict[str, Any]) -> set[tuple[str, str]]:
    """Action and resource, each with each."""
    return {
        (action, _resource(item)) for action in as_list(statement["Action"]) for item in as_list(statement["Resource"])
    }


def test_wildcards_that_allow_are_listed_with_a_reason() -> None:
    found = set()
    for name, statement in statements():
        actions = as_list(statement["Action"])
        assert "*" not in actions, f"{name}/{statement['Sid']} allows or denies every action of every service"
        if statement["Effect"] == "Allow":
            resources = [_resource(item) for item in as_list(statement.get("Resource", []))]
            wide = [item for item in resources if "*" in item and not KEYS_BELOW_A_PREFIX.fullmatch(item)]
            if wide or any("*" in action for action in actions):
                found.add((name, statement["Sid"]))
    assert found == set(ALLOWED_WILDCARDS)


def test_statements_open_to_everyone_only_deny() -> None:
    for name, statement in statements():
        if statement.get("Principal") in ("*", {"AWS": "*"}):
            assert statement["Effect"] == "Deny", f"{name}/{statement['Sid']}"


def test_roles_take_no_policies_of_aws_but_those_listed() -> None:
    roles = properties_of("AWS::IAM::Role")
    given = {name: role["ManagedPolicyArns"] for name, role in roles.items() if "ManagedPolicyArns" in role}
    assert given == ALLOWED_MANAGED_POLICIES
    for name, item in of_type("AWS::Lambda::Function").items():
        # SAM turns these into a role of its own making.
        assert "Policies" not in item["Properties"], name


def test_each_function_has_a_role_that_allows_what_it_does_and_no_more() -> None:
    functions = properties_of("AWS::Lambda::Function")
    roles = {name: function["Role"]["Fn::GetAtt"] for name, function in functions.items()}
    assert sorted(roles.values()) == sorted(f"{role}.Arn" for role in MAY), "one role a function"
    for name, role in roles.items():
        found = statements_of(role.removesuffix(".Arn"))
        assert found.pop("LambdaRunsTheFunction") == {
            "Sid": "LambdaRunsTheFunction",
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        logs = functions[name]["LoggingConfig"]["LogGroup"]["Ref"]
        # Nor may it create the group: one that a function makes by itself keeps logs for ever.
        assert _pairs(found.pop("WriteItsLog")) == {
            ("logs:CreateLogStream", f"{logs}.Arn"),
            ("logs:PutLogEvents", f"{logs}.Arn"),
        }
        allowed = set().union(*(_pairs(statement) for statement in found.values()))
        assert allowed == MAY[role.removesuffix(".Arn")], name


@pytest.mark.parametrize("name", POLICIES)
def test_pipeline_may_do_what_it_does_and_no_more(name: str) -> None:
    found = statements_of(name).values()
    assert all(statement["Effect"] == "Allow" for statement in found)
    assert set().union(*(_pairs(statement) for statement in found)) == POLICIES[name]


def test_every_policy_is_handed_to_airflow_s_role() -> None:
    assert set(properties_of("AWS::IAM::ManagedPolicy")) == set(POLICIES)
    outputs = read_template()["Outputs"]
    assert [outputs[f"{name}Arn"]["Value"] for name in POLICIES] == [{"Ref": name} for name in POLICIES]


@pytest.mark.parametrize("name", POLICIES)
def test_policy_of_the_pipelines_fits_into_iam_s_limit(name: str) -> None:
    text = json.dumps(resource(name)["PolicyDocument"], separators=(",", ":"))
    # An ARN is longer than its name here: a bucket's by some 30 characters, a secret's by twice as many.
    arns = text.count("${") * 30 + text.count('"Ref"') * 60 + text.count("Fn::GetAtt") * 30
    assert len(text) + arns < MAX_POLICY


def test_pipelines_read_the_secrets_of_airflow_and_not_the_key_of_the_tokens() -> None:
    readable = {item for policy in POLICIES.values() for action, item in policy if action.startswith("secretsmanager:")}
    of_airflow = {
        name
        for name, secret in properties_of("AWS::SecretsManager::Secret").items()
        if secret["Name"].startswith("airflow/")
    }
    assert readable == of_airflow
    assert "OrdersJwtSecret" in read_template()["Resources"]
