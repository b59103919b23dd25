"""The application template as it comes out of a deployment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ext.hooks.aws import publish_metrics
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, ENERGY_AUCTION, EVENT_DELIVERY, METRICS_NAMESPACE
from airflow_ext.settings import parse_settings

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef

    from tests.integration.conftest import Aws

PUT_BY_A_PERSON = [
    "airflow/connections/dex_db",
    "airflow/connections/dex_api",
    "airflow/connections/call_details_api",
    "airflow/connections/slack_alerts",
]


TABLES = {
    "OrdersTableName": "record_id",
    "EventsTableName": "event_id",
    "ApiKeysTableName": "key_id",
    "SubscriptionsTableName": "owner",
}
"""Tables of the APIs by the output that names them, with their key."""


def _dimensions(pipeline: str) -> list[DimensionTypeDef]:
    return [{"Name": "Environment", "Value": "local"}, {"Name": "Pipeline", "Value": pipeline}]


def _settings(aws: Aws) -> dict[str, Any]:
    value = json.loads(aws.secrets.get_secret_value(SecretId="airflow/variables/settings")["SecretString"])
    assert isinstance(value, dict)
    return value


def _jwt_key(aws: Aws) -> str:
    return aws.secrets.get_secret_value(SecretId="orders-api/jwt")["SecretString"]


def _environment(aws: Aws, function: str) -> Mapping[str, str]:
    return aws.functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]


def _inbox(aws: Aws, topic: str) -> str:
    """A new queue subscribed to ``topic``."""
    queue = aws.sqs.create_queue(QueueName="template-inbox")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return queue


def _receive_alarm(aws: Aws, queue: str, name: str) -> dict[str, Any]:
    """The message of the alarm ``name``; waits for it up to 20 s after the last of any other."""
    while True:
        messages = aws.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20).get("Messages", [])
        assert messages, f"no message of {name} arrived"
        alarm = json.loads(json.loads(messages[0]["Body"])["Message"])
        assert isinstance(alarm, dict)
        if alarm["AlarmName"] == name:
            return alarm
        # The emulator compares every alarm on a metric of that name, also those of other pipelines.
        aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=messages[0]["ReceiptHandle"])


def test_settings_name_the_resources_of_the_stack(aws: Aws, outputs: Mapping[str, str]) -> None:
    assert _settings(aws) == {
        "environment": "local",
        "business_timezone": "America/New_York",
        "trigger_date_offset_days": 0,
        "archive_bucket": outputs["ArchiveBucketName"],
        "alerts_topic_arn": outputs["AlertsTopicArn"],
        "runbook_url": "docs/RUNBOOK.md",
        "max_mapped_clients": 500,
        "clients_per_task": 1500,
        "archive_concurrency": 64,
        "archive_lock_mode": "NONE",
        "archive_lock_days": 0,
        "order_results_bucket": outputs["OrderResultsBucketName"],
        "auction_results_timeout": 240,
        "max_mapped_orders": 100,
        "orders_per_task": 50,
        "auction_concurrency": 4,
        "rejection_errors": ["OrderRejectedError"],
        "ingest_bucket": outputs["IngestBucketName"],
        "incoming_prefix": "incoming/",
        "ignored_names": "*.filepart, *.tmp, *.part, *.partial, .*",
        "ingest_ledger_table": outputs["IngestLedgerTableName"],
        "call_details_dlq_url": outputs["CallDetailsDeadLettersUrl"],
        "max_records_per_batch": 500,
        "max_retries": 3,
        "max_concurrent_calls": 50,
        "events_table": outputs["EventsTableName"],
        "subscriptions_table": outputs["SubscriptionsTableName"],
        "event_queue_url": outputs["EventQueueUrl"],
        "event_dlq_url": outputs["EventDeadLettersUrl"],
        "max_delivery_attempts": 11,
        "delivery_tasks": 4,
        "delivery_concurrency": 96,
    }
    settings = parse_settings(json.dumps(_settings(aws)))
    assert settings.archive_bucket == outputs["ArchiveBucketName"]
    assert not settings.model_extra, "the template writes what nothing reads"


@pytest.mark.timeout(600)  # three deployments
@pytest.mark.usefixtures("outputs")
def test_parameters_reach_the_nested_stacks_and_an_update_keeps_what_people_and_pipelines_wrote(
    aws: Aws, empty_account: Aws
) -> None:
    other_key = _jwt_key(aws)
    aws = empty_account
    # All at once: the emulator cannot update a nested stack of which a part stays as it is (infra/README.md).
    given = {"AlertEmail": "oncall@example.com", "AuctionSeed": "7", "LogRetentionDays": "90"}
    outputs = aws.deploy(**given)
    assert _environment(aws, "auction-results")["SEED"] == "7"
    create: Any = aws.session().client
    logs = create("logs", endpoint_url=aws.endpoint).describe_log_groups(logGroupNamePrefix="/aws/lambda/")
    assert {group["retentionInDays"] for group in logs["logGroups"]} == {90}
    (subscribed,) = aws.sns.list_subscriptions()["Subscriptions"]
    assert (subscribed["Protocol"], subscribed["Endpoint"]) == ("email", "oncall@example.com")
    bucket = outputs["ArchiveBucketName"]
    aws.s3.put_object(Bucket=bucket, Key="trigger/1/kept.json", Body=b"[1]")
    for name in PUT_BY_A_PERSON:
        aws.secrets.put_secret_value(SecretId=name, SecretString=json.dumps({"password": name}))
    key = _jwt_key(aws)
    assert len(key) == 64
    assert key != other_key, "generated, and not the same for everybody"
    for output, name in TABLES.items():
        aws.dynamodb.put_item(TableName=outputs[output], Item={name: {"S": "kept"}})

    assert aws.deploy(**given) == outputs, "deploying the same again changes nothing"
    aws.deploy(
        **given,
        TriggerDateOffsetDays="-1",
        BusinessTimezone="Europe/Berlin",
        DexApiBaseUrl="https://dex.example.com/v1",
    )

    settings = _settings(aws)
    assert settings["trigger_date_offset_days"] == -1
    assert settings["business_timezone"] == "Europe/Berlin"
    assert settings["dex_api_base_url"] == "https://dex.example.com/v1"
    for name in PUT_BY_A_PERSON:
        value = aws.secrets.get_secret_value(SecretId=name)["SecretString"]
        assert json.loads(value) == {"password": name}
    assert aws.s3.get_object(Bucket=bucket, Key="trigger/1/kept.json")["Body"].read() == b"[1]"
    assert _jwt_key(aws) == key, "a new key would refuse every token that is out there"
    for output, name in TABLES.items():
        assert "Item" in aws.dynamodb.get_item(TableName=outputs[output], Key={name: {"S": "kept"}})


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
    alarm = _receive_alarm(aws, inbox, "pipelines-local-dex-trigger-archive-failed-run")
    assert alarm["NewStateValue"] == "ALARM"


def test_alarms_come_out_as_they_were_meant(aws: Aws, outputs: Mapping[str, str]) -> None:
    alarms = {alarm["AlarmName"]: alarm for alarm in aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert all(alarm["AlarmActions"] == [outputs["AlertsTopicArn"]] for alarm in alarms.values())
    for name, alarm in alarms.items():
        section = name.removeprefix("pipelines-local-")
        assert alarm["AlarmDescription"].endswith(f" Runbook: docs/RUNBOOK.md#{section}")
        assert "${" not in alarm["AlarmDescription"]
    for pipeline, hours in ((DEX_TRIGGER_ARCHIVE, 26.0), (ENERGY_AUCTION, 1 / 3), (EVENT_DELIVERY, 1 / 3)):
        name = f"pipelines-local-{pipeline.replace('_', '-')}"
        failed, silent = alarms[f"{name}-failed-run"], alarms[f"{name}-no-run"]
        for alarm in (failed, silent):
            assert (alarm["Namespace"], alarm["Dimensions"]) == (METRICS_NAMESPACE, _dimensions(pipeline))
        assert (failed["MetricName"], silent["MetricName"]) == ("FailedRuns", "ScheduledRuns")
        assert silent["TreatMissingData"] == "breaching"
        assert silent["Period"] * silent["EvaluationPeriods"] == hours * 3600
    watched = alarms["pipelines-local-orders-api-errors"]["Dimensions"]
    assert watched == [{"Name": "ApiName", "Value": "orders-api-local"}, {"Name": "Stage", "Value": "prod"}]
    watched = alarms["pipelines-local-events-api-errors"]["Dimensions"]
    assert watched == [{"Name": "ApiId", "Value": outputs["EventsApiId"]}, {"Name": "Stage", "Value": "$default"}]
    watched = alarms["pipelines-local-event-delivery-dead-letters"]["Dimensions"]
    assert watched == [{"Name": "QueueName", "Value": "event-delivery-dlq-local"}]
