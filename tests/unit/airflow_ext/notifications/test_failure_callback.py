import json
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import Context, Variable
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout
from airflow.sdk.log import mask_secret

from airflow_ext.ids import XComKey
from airflow_ext.notifications.failure_callback import (
    REFUSAL,
    SUMMARY_TASK,
    TIMED_OUT,
    alert_unreported_failure,
    push_quietly,
    record_alerted,
    record_failure,
)
from airflow_ext.outside import outside
from include.errors import FunctionFailedError, PausedError, SettingsError
from tests.worlds.airflow import FakeRun, FakeTaskInstance, XComs
from tests.worlds.alerts import TOPIC, Wire
from tests.worlds.pipeline import FakeCloudWatch
from tests.worlds.s3 import FakeS3, raising

SETTINGS = {
    "environment": "local",
    "archive_bucket": "archive",
    "order_results_bucket": "order-results",
    "alerts_topic_arn": TOPIC,
}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    wire.attach(monkeypatch)
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))
    return wire


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


def callback_context(run: FakeRun, task_id: str = "archive_client") -> Context:
    context = run.context(task_id)
    context["reason"] = "task_failure"
    return context


def pushed(run: FakeRun, key: XComKey, value: Any) -> None:
    FakeTaskInstance(run.xcoms, SUMMARY_TASK).xcom_push(key, value)


def test_callback_is_silent_when_the_summary_alerted_people(wire: Wire, run: FakeRun) -> None:
    run.clear_number = 1
    record_alerted(run.context(SUMMARY_TASK), ["sns"])
    alert_unreported_failure(callback_context(run))
    assert (wire.sns, wire.slack) == ([], [])


@pytest.mark.parametrize("alerted", [None, []], ids=["never ran", "reached nobody"])
def test_alerts_when_nobody_was_alerted(wire: Wire, run: FakeRun, alerted: list[str] | None) -> None:
    if alerted is not None:
        record_alerted(run.context(SUMMARY_TASK), alerted)
    alert_unreported_failure(callback_context(run))
    (message,) = wire.sns
    assert message["Subject"].startswith("[ERROR] dex_trigger_archive: ")
    page = "operations page: http://localhost:8080/plugin/operations/days"
    for fact in (run.run_id, "reason: task_failure", "last task: archive_client", "http://airflow.test/log", page):
        assert fact in message["Message"]
    assert len(wire.slack) == 1


def test_word_of_an_earlier_life_of_the_run_silences_nobody(wire: Wire, run: FakeRun) -> None:
    """A run that was cleared and then ended by its time-out still has what its first summary left."""
    record_alerted(run.context(SUMMARY_TASK), ["slack", "sns"])
    run.clear_number += 1
    alert_unreported_failure(callback_context(run))
    assert (len(wire.sns), len(wire.slack)) == (1, 1)


def test_alert_names_why_the_summary_failed(wire: Wire, run: FakeRun) -> None:
    pushed(run, XComKey.FAILURE, "StorageRefusedError: no bucket")
    alert_unreported_failure(callback_context(run))
    assert "summarize: StorageRefusedError: no bucket" in wire.sns[0]["Message"]


def test_run_without_a_task_instance_is_alerted(wire: Wire, run: FakeRun) -> None:
    context = callback_context(run)
    del context["ti"]
    alert_unreported_failure(context)
    assert run.run_id in wire.sns[0]["Message"]


def test_slack_alone_is_alerted_when_settings_lack_the_topic(
    wire: Wire, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", "{}")
    alert_unreported_failure(callback_context(run))
    assert wire.sns == []
    assert run.run_id in wire.slack[0]["text"]


@pytest.mark.parametrize("settings", ["{}", "{not json", '{"alerts_topic_arn": 7}'])
def test_topic_of_the_option_is_alerted_when_settings_are_broken_and_slack_fails(
    settings: str, wire: Wire, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", settings)
    monkeypatch.setenv("AIRFLOW__PIPELINES__ALERT_TOPIC_ARN", TOPIC)
    wire.slack_is_down = True
    alert_unreported_failure(callback_context(run))
    (message,) = wire.sns
    assert message["TargetArn"] == TOPIC
    assert run.run_id in message["Message"]


def test_alert_that_slack_did_not_take_waits_for_it(wire: Wire, run: FakeRun) -> None:
    wire.slack_is_down, s3 = True, FakeS3("order-results")
    with outside.replaced(aws={"s3": s3}):
        alert_unreported_failure(callback_context(run))
    assert len(wire.sns) == 1
    (key,) = s3.present("alerts/undelivered/slack/")
    assert run.run_id in (s3.bodies(key)[-1] or b"").decode()


def test_topic_of_the_settings_wins(wire: Wire, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__ALERT_TOPIC_ARN", f"{TOPIC}-of-the-option")
    alert_unreported_failure(callback_context(run))
    assert [message["TargetArn"] for message in wire.sns] == [TOPIC]


def test_slack_is_alerted_whatever_breaks_while_settings_are_read(
    wire: Wire, run: FakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Variable, "get", raising(RuntimeError("the store broke")))
    alert_unreported_failure(callback_context(run))
    assert wire.sns == []
    assert run.run_id in wire.slack[0]["text"]
    assert "is that of the option: RuntimeError, see the log" in caplog.text
    assert "the store broke" not in caplog.text


def test_run_is_alerted_when_xcoms_cannot_be_read(wire: Wire, run: FakeRun) -> None:
    context = callback_context(run)
    context["ti"].xcoms = None  # type: ignore[attr-defined] # as if there were no API server
    alert_unreported_failure(context)
    assert len(wire.sns) == 1


def test_reason_of_a_failure_is_kept_and_the_error_passes() -> None:
    ti = FakeTaskInstance(XComs(), "list_clients")
    with pytest.raises(SettingsError), record_failure(ti):
        raise SettingsError("host is missing")
    assert ti.xcom_pull(task_ids="list_clients", key=XComKey.FAILURE) == "SettingsError: host is missing"


class Unreachable(FakeTaskInstance):
    """A task instance whose API server is gone."""

    def xcom_push(self, key: str, value: Any) -> None:
        raise RuntimeError("no API server")


def test_reason_that_cannot_be_kept_does_not_replace_the_error(caplog: pytest.LogCaptureFixture) -> None:
    ti = Unreachable(XComs(), "list_clients")
    with pytest.raises(SettingsError, match="host is missing"), record_failure(ti):
        raise SettingsError("host is missing")
    assert "'failure' was not pushed: RuntimeError" in caplog.text


def test_entry_that_cannot_be_left_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    push_quietly(Unreachable(XComs(), SUMMARY_TASK), XComKey.ALERTED, ["sns"])
    assert "'alerted' was not pushed" in caplog.text


@pytest.mark.parametrize("before", ["", "x" * 960], ids=["short", "at the cut"])
def test_masked_secret_is_not_in_the_reason(before: str) -> None:
    secret = "masked-by-airflow-7f3a91"
    mask_secret(secret)
    ti = FakeTaskInstance(XComs(), "list_clients")
    with pytest.raises(SettingsError, match=secret), record_failure(ti):
        raise SettingsError(f"{before}login with {secret}")
    kept = ti.xcom_pull(task_ids="list_clients", key=XComKey.FAILURE)
    assert kept.startswith(f"SettingsError: {before}login with"[:997])
    assert "masked" not in kept


def test_skipped_task_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    ti = FakeTaskInstance(XComs(), "wait_for_results")
    with pytest.raises(AirflowSkipException), record_failure(ti):
        raise AirflowSkipException("no results")
    assert ti.xcoms.values == {}
    assert caplog.records == []


def test_task_that_has_to_wait_goes_on_when_it_may_and_has_not_failed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS", "0")
    caplog.set_level("INFO")
    ti = FakeTaskInstance(XComs(), "post_chunk")
    with (
        outside.replaced(now=lambda: 1_772_949_600.0),
        pytest.raises(AirflowRescheduleException) as raised,
        record_failure(ti),
    ):
        raise PausedError("the API asks to wait for 61 s", retry_after=61)
    assert raised.value.reschedule_date.timestamp() == 1_772_949_661
    assert ti.xcoms.values == {}
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "the API asks to wait for 61 s: the task goes on at 06:01:01 UTC")
    ]


def test_long_reason_is_cut_and_success_leaves_nothing() -> None:
    ti = FakeTaskInstance(XComs(), "list_clients")
    with record_failure(ti):
        pass
    assert ti.xcoms.values == {}
    with pytest.raises(SettingsError, match="x"), record_failure(ti):
        raise SettingsError("x" * 100_000)
    assert len(ti.xcom_pull(task_ids="list_clients", key=XComKey.FAILURE)) <= 1000


def test_control_character_of_others_is_visible_in_the_reason() -> None:
    ti = FakeTaskInstance(XComs(), "list_clients")
    with pytest.raises(FunctionFailedError), record_failure(ti):
        raise FunctionFailedError("stock is\x01 low \ud800\nnow")
    assert ti.xcom_pull(task_ids="list_clients", key=XComKey.FAILURE) == (
        "FunctionFailedError: stock is\\x01 low \\ud800 now"
    )


def test_error_that_is_not_ours_is_recorded_by_its_type_as_its_text_may_hold_anything() -> None:
    ti = FakeTaskInstance(XComs(), "list_clients")
    with pytest.raises(ValueError, match="pl4nted"), record_failure(ti):
        raise ValueError(repr({"secret": "pl4nted"}))
    assert ti.xcom_pull(task_ids="list_clients", key=XComKey.FAILURE) == "ValueError, see the log"


@pytest.mark.parametrize("how", ["unknown key", "param"])
def test_run_that_a_person_started_and_that_was_refused_is_counted_and_sends_no_alert(
    how: str, wire: Wire, run: FakeRun
) -> None:
    cloudwatch = FakeCloudWatch()
    if how == "unknown key":
        run.conf = {"triggerdate": "2026-02-03"}
    else:
        record_alerted(run.context(SUMMARY_TASK), [REFUSAL])
    with outside.replaced(aws={"cloudwatch": cloudwatch}):
        alert_unreported_failure(callback_context(run))
    assert (wire.sns, wire.slack) == ([], [])
    assert cloudwatch.published == [("local", "all", {"ReportedFailures": 1.0})]


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("timed_out", "reason: timed_out: it was still going on at its time limit (1:30:00), so Airflow ended it"),
        ("timed_out", "A run that waits while its DAG is paused reaches the limit too"),
        ("task_failure", "reason: task_failure: a task failed, was killed or was marked as failed"),
        ("all_tasks_deadlocked", "none of its tasks can start any more"),
        ("something new", "reason: something new: see Airflow"),
    ],
)
def test_alert_says_how_the_run_came_to_its_end(reason: str, says: str, wire: Wire, run: FakeRun) -> None:
    context = callback_context(run)
    context["reason"] = reason
    context["dag"].dagrun_timeout = timedelta(hours=1, minutes=30)
    alert_unreported_failure(context)
    assert says in wire.sns[0]["Message"]


def test_run_that_another_dag_started_and_that_was_refused_sends_an_alert_with_the_reason(
    wire: Wire, run: FakeRun
) -> None:
    run.conf, run.run_type = {"triggerdate": "2026-02-03"}, "operator_triggered"
    alert_unreported_failure(callback_context(run))
    assert "did you mean 'trigger_date'?" in wire.sns[0]["Message"]


def test_time_limit_of_a_task_is_reported_before_airflow_s_own_line_and_recorded_for_the_summary(
    run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[list[str]] = []

    class Limit(timeout):  # type: ignore[misc] # Airflow names no types
        def handle_timeout(self, signum: int, frame: Any) -> None:
            said.append([record.getMessage() for record in caplog.records if record.levelname == "ERROR"])
            super().handle_timeout(signum, frame)

    context, limit = run.context("archive_client"), Limit(60)
    with limit, pytest.raises(AirflowTaskTimeout), record_failure(context["ti"]):
        signal.raise_signal(signal.SIGALRM)
    assert said == [[TIMED_OUT]]
    assert context["ti"].xcom_pull(task_ids="archive_client", key=XComKey.FAILURE) == TIMED_OUT
    assert signal.getsignal(signal.SIGALRM) == limit.handle_timeout


def test_failure_is_recorded_outside_the_main_thread_too(run: FakeRun) -> None:
    """Where no signal can be handled."""
    context = run.context("archive_client")

    def fail() -> None:
        with record_failure(context["ti"]):
            raise SettingsError("no bucket")

    with ThreadPoolExecutor(1) as threads, pytest.raises(SettingsError):
        threads.submit(fail).result()
    assert context["ti"].xcom_pull(task_ids="archive_client", key=XComKey.FAILURE) == "SettingsError: no bucket"
