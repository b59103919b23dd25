import json
from collections.abc import Iterator

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowException, TaskDeferralError, TaskDeferred

from airflow_ext.operators.call_details_watch import DroppedFileSensor
from airflow_ext.outside import outside
from airflow_ext.triggers.dropped_files import DroppedFileTrigger
from include.errors import SettingsError
from tests.worlds.s3 import FakeIngestBucket

CONTEXT = {}
SETTINGS = {
    "environment": "local",
    "archive_bucket": "archive",
    "order_results_bucket": "order-results",
    "alerts_topic_arn": "arn:aws:sns:us-east-1:000000000000:alerts",
    "ingest_bucket": "ingest",
    "ingest_ledger_table": "ledger",
    "call_details_dlq_url": "https://sqs.test/queue",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIngestBucket]:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))
    s3 = FakeIngestBucket()
    with outside.replaced(aws={"s3": s3}):
        yield s3


@pytest.fixture
def sensor(bucket: FakeIngestBucket) -> DroppedFileSensor:
    return DroppedFileSensor(task_id="wait_for_file", poke_interval=5, timeout=600)


def wait(sensor: DroppedFileSensor) -> TaskDeferred | None:
    """Let the sensor look at the bucket; what it deferred to, if it did."""
    try:
        # As Airflow's task runner calls it: elsewhere an operator may not be executed.
        type(sensor).execute.__wrapped__(sensor, CONTEXT)
    except TaskDeferred as deferred:
        return deferred
    return None


@pytest.mark.parametrize("key", ["incoming/a.txt", "incoming/sub/ä b+.gz", "incoming/a\nb", "incoming/.x/y"])
def test_file_ends_the_wait_at_once(key: str, sensor: DroppedFileSensor, bucket: FakeIngestBucket) -> None:
    bucket.drop(key, b"1\n")
    assert wait(sensor) is None


@pytest.mark.parametrize(
    "key", ["incoming/", "incoming/sub/", "processing/a.txt", "xincoming/a.txt", "incoming/late.txt.filepart"]
)
def test_what_nothing_takes_away_does_not(key: str, sensor: DroppedFileSensor, bucket: FakeIngestBucket) -> None:
    bucket.drop(key, b"1\n")
    assert wait(sensor) is not None, "the watcher would go round and round"


def test_settings_say_where_and_what_is_ignored(
    sensor: DroppedFileSensor, bucket: FakeIngestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = SETTINGS | {"incoming_prefix": "drops/", "ignored_names": "*.lock"}
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(changed))
    bucket.drop("incoming/a.txt", b"1\n")
    bucket.drop("drops/a.lock", b"1\n")
    deferred = wait(sensor)
    assert deferred.trigger.serialize()[1] == {
        "bucket": "ingest",
        "prefix": "drops/",
        "ignored": ["*.lock"],
        "poke_interval": 5,
    }
    bucket.drop("drops/a.tmp", b"1\n")
    assert wait(sensor) is None


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


def test_event_of_the_trigger_ends_the_wait(sensor: DroppedFileSensor) -> None:
    sensor.resume_execution("execute_complete", {"event": {"status": "success"}}, CONTEXT)


def test_wait_is_left_to_the_triggerer(sensor: DroppedFileSensor) -> None:
    deferred = wait(sensor)
    assert isinstance(deferred.trigger, DroppedFileTrigger)
    assert deferred.timeout.total_seconds() == 600


def test_missing_setting_is_named(sensor: DroppedFileSensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS | {"ingest_bucket": ""}))
    with pytest.raises(SettingsError, match="ingest_bucket missing"):
        wait(sensor)
