import re
from datetime import UTC, date, datetime
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from include.archive.keys import archive_key, manifest_key, plan_key, run_manifest_key
from include.mapped_work import outcomes_key

DAY = date(2026, 3, 8)
NOW = datetime(2026, 3, 8, 10, 30, 0, 1, tzinfo=UTC)
IDS = st.integers(1, 10**12)
DAYS = st.dates()
RUN_IDS = st.text(min_size=1, max_size=250)


def test_keys_are_those_of_the_contract() -> None:
    run_id = "scheduled__2026-03-08T10:00:00+00:00"
    plan = plan_key(DAY, run_id, NOW)
    assert archive_key(42, DAY) == "trigger/42/42_trigger_20260308.json"
    assert manifest_key(DAY) == "manifests/trigger/20260308.json"
    assert run_manifest_key(DAY, run_id) == f"manifests/trigger/20260308/{run_id}.json"
    assert plan == "runs/trigger/20260308/scheduled__2026-03-08T10:00:00+00:00/20260308T103000.000001/plan.json"
    assert outcomes_key(plan, 250) == f"{plan.removesuffix('plan.json')}outcomes/000250.json"


def test_early_years_are_padded() -> None:
    assert manifest_key(date(987, 6, 5)) == "manifests/trigger/09870605.json"


@given(IDS, DAYS)
def test_archive_key_tells_client_and_day(client_id: int, day: date) -> None:
    found = re.fullmatch(r"trigger/(\d+)/(\d+)_trigger_(\d{4})(\d{2})(\d{2})\.json", archive_key(client_id, day))
    folder, name, *parts = map(int, found.groups())
    assert folder == name == client_id
    assert date(*parts) == day


@given(RUN_IDS, DAYS, st.integers(0, 999_999))
def test_key_of_outcomes_tells_run_day_and_position(run_id: str, day: date, first: int) -> None:
    key = outcomes_key(plan_key(day, run_id, NOW), first)
    found = re.fullmatch(r"runs/trigger/(\d{8})/([^/]+)/20260308T103000\.000001/outcomes/(\d{6,})\.json", key)
    assert date.fromisoformat(found[1]) == day
    assert unquote(found[2]) == run_id
    assert int(found[3]) == first


@given(st.tuples(IDS, DAYS), st.tuples(IDS, DAYS))
def test_no_two_answers_share_a_key(one: tuple[int, date], other: tuple[int, date]) -> None:
    assert (archive_key(*one) == archive_key(*other)) == (one == other)


@given(st.tuples(DAYS, RUN_IDS), st.tuples(DAYS, RUN_IDS))
def test_no_two_runs_share_a_plan(one: tuple[date, str], other: tuple[date, str]) -> None:
    assert (plan_key(*one, NOW) == plan_key(*other, NOW)) == (one == other)
