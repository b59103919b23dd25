from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from airflow.sdk import RetryAction
from hypothesis import given
from hypothesis import strategies as st

from airflow_ext.defaults import (
    ACCOUNTING,
    MAX_BACKOFF_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    OPERATIONS_PAGE,
    SHORT_RUN_DEFAULTS,
    TASK_DEFAULTS,
    TypedRetryPolicy,
    backoff_seconds,
    by_person,
    common,
    operations_url,
    refuse_unknown_keys,
    schedule_of,
    schedule_text,
    started_at,
)
from include import errors
from include.call_details.ledger import MAX_PAUSE_SECONDS
from pipelines_plugin import PipelinesPlugin
from tests.worlds.airflow import FakeRun


def evaluate(error: BaseException, try_number: int = 1) -> float:
    """Seconds until the retry."""
    decision = TypedRetryPolicy().evaluate(error, try_number, 5)
    assert decision.action is RetryAction.RETRY
    return decision.retry_delay.total_seconds()


def test_claim_of_a_file_outlasts_the_longest_wait_that_an_api_can_ask_for() -> None:
    assert MAX_PAUSE_SECONDS >= MAX_RETRY_AFTER_SECONDS


def leaves(branch: type[errors.PipelineError]) -> list[type[errors.PipelineError]]:
    found = branch.__subclasses__()
    assert found
    return found


@pytest.mark.parametrize("error", leaves(errors.PermanentError))
def test_permanent_errors_fail_at_once(error: type[errors.PipelineError]) -> None:
    decision = TypedRetryPolicy().evaluate(error("check the login"), 1, 5)
    assert decision.action is RetryAction.FAIL
    assert decision.reason == f"{error.__name__}: check the login"


@pytest.mark.parametrize("error", [*leaves(errors.TransientError), ValueError, OSError, KeyboardInterrupt])
def test_transient_and_unknown_errors_are_retried(error: type[BaseException]) -> None:
    assert evaluate(error("busy")) > 0


@given(st.integers(1, 10_000), st.floats(0.01, 600))
def test_backoff_lies_between_half_and_all_of_the_doubled_base(try_number: int, base: float) -> None:
    ceiling = min(MAX_BACKOFF_SECONDS, base * 2 ** min(try_number - 1, 40))
    assert ceiling / 2 <= backoff_seconds(try_number, base=base) <= ceiling


def test_default_delays_grow_to_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS")
    bounds = {1: (15, 30), 2: (30, 60), 5: (240, 480), 6: (300, 600), 50: (300, 600)}
    for try_number, (least, most) in bounds.items():
        assert least <= evaluate(errors.ApiUnavailableError("busy"), try_number) <= most


def test_tasks_that_failed_together_come_back_apart() -> None:
    assert len({backoff_seconds(3, base=30) for _ in range(50)}) > 40


@given(st.floats(0, MAX_RETRY_AFTER_SECONDS))
def test_retry_after_is_the_least_delay(asked: float) -> None:
    assert evaluate(errors.ApiUnavailableError("busy", retry_after=asked)) >= asked - 1e-6


def test_short_retry_after_does_not_undo_the_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS", "30")
    delays = [evaluate(errors.ApiUnavailableError("busy", retry_after=1.0), 5) for _ in range(20)]
    assert min(delays) >= 240
    assert max(delays) <= 480


def test_retry_after_spreads_and_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS", "30")
    error = errors.RetryableFailuresError("busy", retry_after=1e9)
    delays = {evaluate(error) for _ in range(20)}
    assert len(delays) > 10
    assert all(MAX_RETRY_AFTER_SECONDS <= delay <= MAX_RETRY_AFTER_SECONDS + 30 for delay in delays)


def test_endless_retry_after_has_a_limit_too() -> None:
    assert evaluate(errors.ApiUnavailableError("busy", retry_after=float("inf"))) < 2 * MAX_RETRY_AFTER_SECONDS


def test_short_runs_wait_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS")
    policy = SHORT_RUN_DEFAULTS["retry_policy"]
    delays = [
        policy.evaluate(errors.ApiUnavailableError("busy"), number, 3).retry_delay.total_seconds()
        for number in range(1, SHORT_RUN_DEFAULTS["retries"] + 1)
    ]
    assert 2.5 <= delays[0] <= 5
    assert 5 <= delays[1] <= 10
    assert 10 <= delays[2] <= 20
    assert policy.evaluate(errors.WorkFailedError("no"), 1, 3).action is RetryAction.FAIL


def test_option_still_makes_short_runs_quicker() -> None:
    policy = SHORT_RUN_DEFAULTS["retry_policy"]
    assert policy.evaluate(ValueError(), 1, 3).retry_delay.total_seconds() <= 0.01


@given(st.integers(1, 10_000), st.floats(0.01, 600), st.floats(0.01, 600))
def test_no_delay_goes_beyond_the_ceiling(try_number: int, base: float, ceiling: float) -> None:
    assert backoff_seconds(try_number, base=base, ceiling=ceiling) <= ceiling


def test_every_task_has_the_policy() -> None:
    assert isinstance(TASK_DEFAULTS["retry_policy"], TypedRetryPolicy)
    assert TASK_DEFAULTS["retries"] >= 3


def test_reason_of_an_unknown_error_is_its_type_alone() -> None:
    decision = TypedRetryPolicy().evaluate(ValueError("pl4nted"), 1, 5)
    assert decision.reason == "ValueError, see the log"


OPTION = "AIRFLOW__PIPELINES__DEX_TRIGGER_ARCHIVE_SCHEDULE"


@pytest.mark.parametrize(
    "expression",
    [
        "30 20 * * *",
        "30 20 * * 1-5",
        "*/5 * * * *",
        "0,30 8-18/2 1 JAN-jun MON,wed,FRI",
        " 0 6 * * 7 ",
        "5/15 * 31 12 sun",
    ],
)
def test_cron_expression_of_five_fields_is_taken(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTION, expression)
    assert schedule_of("dex_trigger_archive", default="30 20 * * *") == expression.strip()


@pytest.mark.parametrize(
    "expression",
    [
        "0 6 * * ? *", "0 6 * * ?", "0 0 6 * * *", "0 6 * * * 2026", "0 6 * *", "", "@daily", "cron(0 6 * * ? *)",
        "0 6 L * *", "0 6 15W * *", "0 6 * * 5L", "0 6 * * FRI#2", "0 6 * * *\n* * * * *", "R R * * *",
        "0 6 * * MONDAY",
    ],
)  # fmt: skip
def test_other_cron_expressions_are_refused_with_the_form_that_is_meant(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPTION, expression)
    with pytest.raises(errors.SettingsError) as caught:
        schedule_of("dex_trigger_archive", default="30 20 * * *")
    for part in (
        "[pipelines] dex_trigger_archive_schedule",
        repr(expression.strip()),
        "five fields",
        "'30 20 * * 1-5'",
    ):
        assert part in str(caught.value)


def refusal(conf: dict[str, object], **params: object) -> str:
    with pytest.raises(errors.RunRefusedError) as caught:
        refuse_unknown_keys(FakeRun(params=params, conf=conf).context("any"))
    return str(caught.value)


def test_key_that_is_no_param_is_refused_with_the_nearest_param() -> None:
    archive = {"trigger_date": None, "client_ids": None, "force": False}
    assert "'triggerdate' in the run's configuration is no param of this DAG" in refusal({"triggerdate": 1}, **archive)
    assert "did you mean 'trigger_date'?" in refusal({"triggerdate": "2026-02-03"}, **archive)
    assert "did you mean 'client_ids'?" in refusal({"force": True, "clientIds": [1]}, **archive)
    assert "did you mean 'dry_run'?" in refusal({"dryrun": True}, limit=1000, dry_run=False)
    assert "Params: limit, dry_run" in refusal({"x": True}, limit=1000, dry_run=False)
    assert "this DAG takes no params" in refusal({"force": True})


def test_key_of_others_is_shown_printable_and_short() -> None:
    assert "\\x1b" in refusal({"\x1b[2J": 1}, force=False)
    assert len(refusal({"k" * 100_000: 1}, force=False)) < 400


@pytest.mark.parametrize("conf", [None, {}, {"force": True}, {"force": True, "limit": 1}])
def test_known_keys_and_no_keys_are_no_refusal(conf: dict[str, object] | None) -> None:
    run = FakeRun(params={"force": False, "limit": 10})
    run.conf = conf  # type: ignore[assignment] # Airflow's is None where none was given
    refuse_unknown_keys(run.context("any"))


@pytest.mark.parametrize(
    ("run_type", "person"),
    [
        ("manual", True),
        ("backfill", True),
        ("scheduled", False),
        ("operator_triggered", False),
        ("asset_triggered", False),
    ],
)
def test_person_sees_what_becomes_of_a_manual_run_and_a_backfill(run_type: str, person: bool) -> None:
    assert by_person(FakeRun(run_type=run_type).context("any")) is person


def test_start_that_dags_test_makes_up_is_none() -> None:
    start, logical = datetime(2026, 3, 8, 6, 0, 1, tzinfo=UTC), datetime(2026, 3, 8, 6, tzinfo=UTC)
    assert started_at(FakeRun(start_date=start, logical_date=logical).context("any")) == start
    assert started_at(FakeRun(start_date=start).context("any")) == start
    assert started_at(FakeRun(start_date=logical, logical_date=logical).context("any")) is None


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("5 7 * * *", "07:05 Asia/Tokyo"),
        ("*/5 * * * *", "every 5 minutes (Asia/Tokyo)"),
        ("* * * * *", "every minute (Asia/Tokyo)"),
        ("30 20 * * 1-5", "cron 30 20 * * 1-5 Asia/Tokyo"),
    ],
)
def test_schedule_for_people_has_its_zone(expression: str, text: str) -> None:
    assert schedule_text(expression, "Asia/Tokyo") == text


MANUAL = "# A name\n\nDoes this\nand that.\n\n**What.** See [the\nday](docs/RUNBOOK.md#a-day).\n"


def test_page_has_name_and_description_and_says_where_the_runbook_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__PIPELINES__RUNBOOK_URL")
    found = common(MANUAL, "07:05 UTC")
    assert found["dag_display_name"] == "A name"
    assert found["description"] == "Does this and that. Schedule: 07:05 UTC."
    assert found["doc_md"] == MANUAL.replace("[the\nday](docs/RUNBOOK.md#a-day)", "the\nday (docs/RUNBOOK.md#a-day)")


def test_page_links_to_the_runbook_that_the_option_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__RUNBOOK_URL", r"https://wiki.example/\\1")
    assert r"[the\nday](https://wiki.example/\\1#a-day)".replace(r"\n", "\n") in common(MANUAL, "x")["doc_md"]


def test_alerts_lead_to_the_page_that_the_plugin_registers() -> None:
    routes = {app["destination"]: app["url_route"] for app in PipelinesPlugin.react_apps}
    assert f"/plugin/{routes['nav']}" == OPERATIONS_PAGE


@pytest.mark.parametrize("base", [1, 30])
def test_accounting_for_a_run_outlasts_a_bad_quarter_of_an_hour(base: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__RETRY_BASE_SECONDS", str(base))
    policy, retries = ACCOUNTING["retry_policy"], ACCOUNTING["retries"]
    busy = errors.StorageUnavailableError("busy")
    delays = [policy.evaluate(busy, number, retries).retry_delay for number in range(1, retries + 1)]
    assert sum(delay.total_seconds() for delay in delays) >= 15 * 60


def test_each_dag_has_a_view_that_the_page_has(root: Path) -> None:
    script = (root / "plugins" / "airflow_ext" / "operations" / "static" / "operations.js").read_text()
    for dag in (root / "dags").glob("*.py"):
        view = operations_url(dag.stem).removeprefix("http://localhost:8080/plugin/operations/")
        assert f"\n  {view}: [" in script or f", {view}: [" in script, dag.stem
    assert operations_url("energy_auction", date(2026, 3, 2)).endswith("/operations/orders?day=2026-03-02")
