from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.providers.amazon.aws.triggers.s3 import S3KeyTrigger
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowException, TaskDeferralError, TaskDeferred

from airflow_ext.operators.dropped_files import FILES, DroppedFileSensor
from include.errors import SettingsError

if TYPE_CHECKING:
    from airflow.sdk import Context

CONTEXT = cast("Context", {})
SETTINGS = {
    "environment": "local",
    "archive_bucket": "archive",
    "order_results_bucket": "order-results",
    "alerts_topic_arn": "arn:aws:sns:us-east-1:000000000000:alerts",
    "ingest_bucket": "ingest",
    "ingest_ledger_table": "ledger",
    "call_details_dlq_url": "https://sqs.test/queue",
}


class Hook:
    """Lists what lies in the bucket."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def get_s3_bucket_key(self, bucket: str, key: str, *names: str) -> tuple[str, str]:
        return bucket, key

    def iter_file_metadata(self, prefix: str, bucket: str) -> list[dict[str, Any]]:
        assert (prefix, bucket) == ("incoming/", "ingest")
        return [{"Key": key} for key in self.keys]


@pytest.fixture
def sensor(monkeypatch: pytest.MonkeyPatch) -> DroppedFileSensor:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))
    return DroppedFileSensor(task_id="wait_for_file", poke_interval=5, timeout=600)


def look(sensor: DroppedFileSensor, *keys: str) -> TaskDeferred | None:
    """Let the sensor look at a bucket with these keys; what it deferred to, if it did."""
    sensor.hook = Hook(*keys)
    try:
        # As Airflow's task runner calls it: elsewhere an operator may not be executed.
        type(sensor).execute.__wrapped__(sensor, CONTEXT)  # type: ignore[attr-defined]
    except TaskDeferred as deferred:
        return deferred
    return None


@pytest.mark.parametrize("key", ["incoming/a.txt", "incoming/sub/ä b+.gz", "incoming/.hidden", "incoming/a\nb"])
def test_files_match(key: str) -> None:
    assert fnmatch.fnmatch(key, FILES)


@pytest.mark.parametrize("key", ["incoming/", "incoming/sub/", "processing/a.txt", "xincoming/a.txt"])
def test_folders_and_other_places_do_not(key: str) -> None:
    assert not fnmatch.fnmatch(key, FILES), "the watcher would go round and round"


def test_wait_that_is_over_is_no_failure(sensor: DroppedFileSensor) -> None:
    sensor.resume_execution(TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, CONTEXT)


def test_trigger_that_crashed_is_a_failure(sensor: DroppedFileSensor) -> None:
    with pytest.raises(TaskDeferralError):
        sensor.resume_execution(TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_FAILURE}, CONTEXT)


def test_error_of_s3_is_a_failure(sensor: DroppedFileSensor) -> None:
    with pytest.raises(AirflowException, match="no such bucket"):
        sensor.resume_execution(
            "execute_complete", {"event": {"status": "error", "message": "no such bucket"}}, CONTEXT
        )


def test_file_ends_the_wait(sensor: DroppedFileSensor) -> None:
    sensor.resume_execution("execute_complete", {"event": {"status": "success"}}, CONTEXT)
    assert look(sensor, "incoming/", "incoming/a.txt") is None


def test_wait_is_left_to_the_triggerer(sensor: DroppedFileSensor) -> None:
    deferred = look(sensor, "incoming/")
    assert deferred is not None
    assert isinstance(deferred.trigger, S3KeyTrigger)
    _, arguments = deferred.trigger.serialize()
    assert (arguments["bucket_name"], arguments["bucket_key"], arguments["wildcard_match"]) == ("ingest", FILES, True)
    assert (arguments["aws_conn_id"], arguments["poke_interval"]) == ("aws_default", 5)
    assert deferred.timeout is not None
    assert deferred.timeout.total_seconds() == 600


def test_missing_setting_is_named(sensor: DroppedFileSensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS | {"ingest_bucket": ""}))
    with pytest.raises(SettingsError, match="ingest_bucket missing"):
        look(sensor)
