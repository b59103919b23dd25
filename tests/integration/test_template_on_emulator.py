"""The application template as it comes out of a deployment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ext.hooks.aws import publish_metrics
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, METRICS_NAMESPACE
from airflow_ext.settings import parse_settings

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef

    from tests.integration.conftest import Aws

PUT_BY_A_PERSON = [
    "airflow/connections/dex_db",
    "airflow/connections/dex_api",
    "airflow/connections/slack_alerts",
]
PIPELINE: list[DimensionTypeDef] = [
    {"Name": "Environment", "Value": "local"},
    {"Name": "Pipeline", "Value": DEX_TRIGGER_ARCHIVE},
]


def _settings(aws: Aws) -> dict[str, Any]:
    value = json.loads(aws.secrets.get_secret_value(SecretId="airflow/variables/settings")["SecretString"])
    assert isinstance(value, dict)
    return value


def _inbox(aws: Aws, topic: str) -> str:
    """A new queue subscribed to ``topic``."""
    queue = aws.sqs.create_queue(QueueName="template-inbox")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return queue


def _receive(aws: Aws, queue: str) -> dict[str, Any]:
    """The next message of ``queue``; waits for it up to 20 s."""
    messages = aws.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20).get("Messages", [])
    assert messages, "no message arrived"
    envelope = json.loads(messages[0]["Body"])
    assert isinstance(envelope, dict)
    return envelope


def test_bucket_keeps_versions_encrypts_and_is_private(aws: Aws, archive_bucket: str) -> None:
    s3 = aws.s3
    assert archive_bucket == f"dex-trigger-archive-local-{aws.account}"
    assert s3.get_bucket_versioning(Bucket=archive_bucket)["Status"] == "Enabled"
    blocked = s3.get_public_access_block(Bucket=archive_bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    owner = s3.get_bucket_ownership_controls(Bucket=archive_bucket)["OwnershipControls"]["Rules"]
    assert owner == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    policy = json.loads(s3.get_bucket_policy(Bucket=archive_bucket)["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["DenyWithoutTls"]
    encryption = s3.get_bucket_encryption(Bucket=archive_bucket)["ServerSideEncryptionConfiguration"]
    assert [rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in encryption["Rules"]] == ["AES256"]


def test_settings_name_the_resources_of_the_stack(aws: Aws, outputs: Mapping[str, str]) -> None:
    assert _settings(aws) == {
        "environment": "local",
        "business_timezone": "America/New_York",
        "trigger_date_offset_days": 0,
        "archive_bucket": outputs["ArchiveBucketName"],
        "alerts_topic_arn": outputs["AlertsTopicArn"],
        "max_mapped_clients": 500,
        "clients_per_task": 500,
        "archive_concurrency": 16,
    }
    settings = parse_settings(json.dumps(_settings(aws)))
    assert settings.archive_bucket == outputs["ArchiveBucketName"]
    assert not settings.model_extra, "the template writes what nothing reads"


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", PUT_BY_A_PERSON)
def test_secrets_of_people_are_there_without_a_value(aws: Aws, name: str) -> None:
    assert aws.secrets.describe_secret(SecretId=name)["Description"]
    # AWS keeps no version at all and answers ResourceNotFoundException here; the emulator keeps an empty one.
    assert aws.secrets.get_secret_value(SecretId=name)["SecretString"] == ""


def test_update_changes_settings_and_keeps_what_people_and_pipelines_wrote(empty_account: Aws) -> None:
    aws = empty_account
    outputs = aws.deploy()
    bucket = outputs["ArchiveBucketName"]
    aws.s3.put_object(Bucket=bucket, Key="trigger/1/kept.json", Body=b"[1]")
    for name in PUT_BY_A_PERSON:
        aws.secrets.put_secret_value(SecretId=name, SecretString=json.dumps({"password": name}))

    assert aws.deploy() == outputs, "deploying the same again changes nothing"
    aws.deploy(
        TriggerDateOffsetDays="-1",
        BusinessTimezone="Europe/Berlin",
        DexApiBaseUrl="https://dex.example.com/v1",
        AlertEmail="oncall@example.com",
    )

    settings = _settings(aws)
    assert settings["trigger_date_offset_days"] == -1
    assert settings["business_timezone"] == "Europe/Berlin"
    assert settings["dex_api_base_url"] == "https://dex.example.com/v1"
    for name in PUT_BY_A_PERSON:
        value = aws.secrets.get_secret_value(SecretId=name)["SecretString"]
        assert json.loads(value) == {"password": name}
    assert aws.s3.get_object(Bucket=bucket, Key="trigger/1/kept.json")["Body"].read() == b"[1]"
    subscribed = aws.sns.list_subscriptions()["Subscriptions"]
    assert [(item["Protocol"], item["Endpoint"]) for item in subscribed] == [("email", "oncall@example.com")]


def test_failed_run_rings_the_alarm_and_the_topic_carries_it(
    aws: Aws, outputs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = _inbox(aws, outputs["AlertsTopicArn"])
    connection = {
        "conn_type": "aws",
        "login": aws.account,
        "password": "test",
        "extra": {"endpoint_url": aws.endpoint, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    publish_metrics({"FailedRuns": 1.0}, environment="local", pipeline=DEX_TRIGGER_ARCHIVE)
    alarm = json.loads(_receive(aws, inbox)["Message"])
    assert alarm["AlarmName"] == "pipelines-local-dex-trigger-archive-failed-run"
    assert alarm["NewStateValue"] == "ALARM"


def test_alarms_watch_the_metrics_of_the_archive(aws: Aws, outputs: Mapping[str, str]) -> None:
    alarms = {alarm["AlarmName"]: alarm for alarm in aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert set(alarms) == {
        "pipelines-local-dex-trigger-archive-failed-run",
        "pipelines-local-dex-trigger-archive-no-run",
        "pipelines-local-alerts-undelivered",
    }
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [outputs["AlertsTopicArn"]]
        if "dex-trigger-archive" in name:
            assert (alarm["Namespace"], alarm["Dimensions"]) == (METRICS_NAMESPACE, PIPELINE)
    assert alarms["pipelines-local-dex-trigger-archive-failed-run"]["MetricName"] == "FailedRuns"
    no_run = alarms["pipelines-local-dex-trigger-archive-no-run"]
    assert no_run["MetricName"] == "ScheduledRuns"
    assert no_run["TreatMissingData"] == "breaching"
    assert no_run["Period"] * no_run["EvaluationPeriods"] == 26 * 3600
