"""The application template as text: what must be true of every bucket, table, secret and parameter in it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest

from tests.packaging.template import ROOT, TEMPLATE, of_type, properties_of, read_template, resource

CFN_LINT = ROOT / ".venv-aws" / "bin" / "cfn-lint"
BUCKETS = ["ArchiveBucket", "OrderResultsBucket", "IngestBucket"]

PUT_BY_A_PERSON = {
    "airflow/connections/dex_db",
    "airflow/connections/dex_api",
    "airflow/connections/call_details_api",
    "airflow/connections/slack_alerts",
}
WRITTEN_BY_THE_STACK = {"airflow/variables/settings", "orders-api/jwt"}


def test_cfn_lint_finds_nothing() -> None:
    assert CFN_LINT.exists(), f"{CFN_LINT} is missing: run `make setup`"
    done = subprocess.run([str(CFN_LINT), str(TEMPLATE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_buckets_are_encrypted_versioned_private_and_kept() -> None:
    assert set(of_type("AWS::S3::Bucket")) == set(BUCKETS)
    for name, bucket in of_type("AWS::S3::Bucket").items():
        properties = bucket["Properties"]
        encryption = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms"), name
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}, name
        blocked = properties["PublicAccessBlockConfiguration"]
        assert list(blocked.values()) == [True] * 4, name
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}], name
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_buckets_refuse_requests_without_tls() -> None:
    protected = {}
    for policy in properties_of("AWS::S3::BucketPolicy").values():
        bucket = policy["Bucket"]["Ref"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                assert statement["Effect"] == "Deny"
                assert statement["Principal"] == "*"
                assert statement["Action"] == "s3:*"
                protected[bucket] = statement["Resource"]
    assert protected == {
        bucket: [{"Fn::GetAtt": f"{bucket}.Arn"}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}] for bucket in BUCKETS
    }


@pytest.mark.parametrize("bucket", ["ArchiveBucket", "OrderResultsBucket"])
def test_only_run_state_expires(bucket: str) -> None:
    rules = resource(bucket)["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if set(rule) - {"Id", "Status", "Prefix", "AbortIncompleteMultipartUpload"}]
    assert expiring
    assert {rule.get("Prefix") for rule in expiring} == {"runs/"}
    by_id = {rule["Id"]: rule for rule in rules}
    assert by_id["expire-run-state"]["ExpirationInDays"] == 30
    assert by_id["expire-run-state"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert by_id["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_of_call_details_only_plans_and_what_was_moved_away_expire() -> None:
    rules = {rule["Id"]: rule for rule in resource("IngestBucket")["LifecycleConfiguration"]["Rules"]}
    assert {rule["Prefix"] for rule in rules.values() if "ExpirationInDays" in rule} == {"plans/"}
    forgotten = {
        rule["Prefix"]: rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules.values()
        if "NoncurrentVersionExpiration" in rule
    }
    assert forgotten == {"plans/": 7, "incoming/": 30, "processing/": 7}
    markers = {rule["Prefix"] for rule in rules.values() if rule.get("ExpiredObjectDeleteMarker")}
    assert markers == set(forgotten), "a marker of each file that ever was, and every listing slower"
    assert rules["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_tables_are_kept_encrypted_and_can_be_set_back() -> None:
    assert set(of_type("AWS::DynamoDB::Table")) == {"OrdersTable", "IngestLedgerTable"}
    for name, table in of_type("AWS::DynamoDB::Table").items():
        properties = table["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
        assert properties["SSESpecification"] == {"SSEEnabled": True}, name
        assert properties["BillingMode"] == "PAY_PER_REQUEST", name
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_ledger_forgets_nothing() -> None:
    properties = resource("IngestLedgerTable")
    assert properties["TableName"] == {"Fn::Sub": "ingest-ledger-${Environment}"}
    assert {key["AttributeName"]: key["KeyType"] for key in properties["KeySchema"]} == {"pk": "HASH", "sk": "RANGE"}
    assert {item["AttributeType"] for item in properties["AttributeDefinitions"]} == {"S"}
    assert "TimeToLiveSpecification" not in properties, "a file that comes again later would be posted again"


def test_queue_of_dead_letters_keeps_them_as_long_as_it_can() -> None:
    (item,) = of_type("AWS::SQS::Queue").values()
    queue = item["Properties"]
    assert queue["QueueName"] == {"Fn::Sub": "call-details-dlq-${Environment}"}
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["SqsManagedSseEnabled"] is True
    assert (item["DeletionPolicy"], item["UpdateReplacePolicy"]) == ("Retain", "Retain")
    (policy,) = properties_of("AWS::SQS::QueuePolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_records_of_orders_are_forgotten_after_their_time() -> None:
    properties = resource("OrdersTable")
    assert properties["TableName"] == {"Fn::Sub": "orders-${Environment}"}
    assert properties["KeySchema"] == [{"AttributeName": "record_id", "KeyType": "HASH"}]
    assert properties["AttributeDefinitions"] == [{"AttributeName": "record_id", "AttributeType": "S"}]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_secrets_of_people_have_no_value_but_describe_one() -> None:
    by_name = {item["Name"]: item for item in properties_of("AWS::SecretsManager::Secret").values()}
    assert set(by_name) == PUT_BY_A_PERSON | WRITTEN_BY_THE_STACK
    for name in PUT_BY_A_PERSON:
        assert not {"SecretString", "GenerateSecretString"} & set(by_name[name]), name
        shape = re.search(r"\{.*\}", by_name[name]["Description"])
        assert shape, f"{name} does not say what to put"
        credentials = {"extra"} if name.endswith("/call_details_api") else {"password"}
        assert {"conn_type", "host"} | credentials <= set(json.loads(shape[0])), name


def test_key_of_the_tokens_is_generated_and_long_enough() -> None:
    key = resource("OrdersJwtSecret")
    assert "SecretString" not in key
    # HS256 wants at least 256 bits; 64 letters and digits hold 381.
    assert key["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}


def test_every_parameter_and_output_is_described() -> None:
    template = read_template()
    for name, item in (template["Parameters"] | template["Outputs"]).items():
        assert item.get("Description"), name


def test_every_environment_has_its_deployment() -> None:
    config = tomllib.loads((ROOT / "infra" / "samconfig.toml").read_text(encoding="utf-8"))
    environments = {name: body for name, body in config.items() if name not in ("version", "default")}
    assert set(environments) == set(read_template()["Parameters"]["Environment"]["AllowedValues"])
    for name, body in environments.items():
        parameters = body["deploy"]["parameters"]
        assert parameters["stack_name"] == f"pipelines-{name}"
        assert parameters["parameter_overrides"] == [f"Environment={name}"]
    assert environments["prod"]["deploy"]["parameters"]["confirm_changeset"] is True
