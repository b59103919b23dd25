import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pendulum
import pytest
import time_machine
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG
from airflow.sdk.configuration import conf
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.utils.types import DagRunType
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_ext.timetables import BusinessDayTimetable

ZONES = [
    "America/New_York", "Europe/Warsaw", "Asia/Tokyo", "UTC", "Asia/Kolkata", "Asia/Kathmandu",
    "Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe", "Pacific/Chatham", "Africa/Casablanca",
    # Their clocks change at midnight.
    "America/Havana", "America/Santiago", "Asia/Beirut", "Africa/Cairo", "Atlantic/Azores", "America/Asuncion",
]  # fmt: skip
FROM = st.dates(date(2020, 1, 2), date(2030, 12, 1))
LENGTHS = st.integers(0, 40)
CRONS = ("30 20 * * *", "30 23 * * *", "15 4 * * *", "0 12 * * *")


def reloaded(cron: str, zone: str) -> SerializedDAG:
    """A DAG as the scheduler and the backfill command have it: read back from the database."""
    dag = DAG(
        "daily",
        schedule=BusinessDayTimetable(cron, timezone=zone),
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
    )
    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))


def midnight_utc(day: date) -> datetime:
    """How the backfill command passes a bare date."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def days(dag: SerializedDAG, first: date, last: date, zone: str) -> list[date]:
    infos = dag.iter_dagrun_infos_between(midnight_utc(first), midnight_utc(last))
    return [info.logical_date.astimezone(ZoneInfo(zone)).date() for info in infos if info.logical_date]


def expected(first: date, length: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(length + 1)]


@pytest.fixture(scope="module")
def dags() -> dict[tuple[str, str], SerializedDAG]:
    return {(cron, zone): reloaded(cron, zone) for zone in ZONES for cron in CRONS}


@given(st.sampled_from(ZONES), st.sampled_from(CRONS), FROM, LENGTHS)
@example("America/New_York", "30 20 * * *", date(2026, 3, 1), 14)
@example("America/New_York", "30 20 * * *", date(2026, 3, 8), 0)
@example("America/New_York", "30 23 * * *", date(2026, 11, 1), 0)
@example("America/Havana", "30 23 * * *", date(2026, 10, 31), 0)
@example("America/Havana", "30 23 * * *", date(2026, 3, 7), 0)
@example("Pacific/Kiritimati", "30 20 * * *", date(2026, 3, 1), 6)
def test_backfill_of_bare_dates_is_a_backfill_of_business_days(
    dags: dict[tuple[str, str], SerializedDAG], zone: str, cron: str, first: date, length: int
) -> None:
    last = first + timedelta(days=length)
    assert days(dags[cron, zone], first, last, zone) == expected(first, length)


@pytest.mark.parametrize("cron", ["0 0 * * *", "30 0 * * *", "59 23 * * *"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/Havana", date(2026, 11, 1)),
        ("Atlantic/Azores", date(2026, 10, 25)),
        ("Asia/Beirut", date(2026, 10, 25)),
        ("America/Santiago", date(2026, 4, 4)),
    ],
)
def test_day_whose_midnight_comes_twice_is_one_day_of_a_range(zone: str, change: date, cron: str) -> None:
    dag = reloaded(cron, zone)
    first, last = change - timedelta(days=2), change + timedelta(days=2)
    assert days(dag, first, last, zone) == expected(first, 4)
    for day in expected(first, 4):
        assert days(dag, day, day, zone) == [day]


@pytest.mark.parametrize(
    ("zone", "change"),
    [("America/Havana", date(2026, 3, 8)), ("Africa/Cairo", date(2026, 4, 24)), ("Asia/Beirut", date(2026, 3, 29))],
)
def test_day_that_begins_after_midnight_is_one_day_of_a_range(zone: str, change: date) -> None:
    dag = reloaded("30 23 * * *", zone)
    for day in (change - timedelta(days=1), change):
        assert days(dag, day, day, zone) == [day]


def midnight_in(zone: str, day: date) -> datetime:
    """How the UI's form of a browser in the business zone passes a date."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)


@pytest.mark.parametrize("cron", ["30 20 * * *", "5 1 * * *", "59 23 * * *"])
@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("America/New_York", date(2021, 3, 14)),
        ("America/New_York", date(2021, 11, 7)),
        ("Europe/London", date(2026, 3, 29)),
        ("Asia/Tokyo", date(2026, 6, 1)),
        ("Asia/Kolkata", date(2026, 6, 1)),
        # Their midnight comes twice, or not at all.
        ("America/Havana", date(2026, 11, 1)),
        ("America/Havana", date(2026, 3, 8)),
        ("Africa/Cairo", date(2026, 4, 24)),
    ],
)
def test_midnight_of_the_business_zone_means_that_business_day_both_ends_included(
    zone: str, around: date, cron: str
) -> None:
    dag = reloaded(cron, zone)
    for first, last in [
        (around - timedelta(days=1), around + timedelta(days=1)),
        (around, around),
        (around - timedelta(days=2), around),
        (around, around + timedelta(days=2)),
    ]:
        bounds = midnight_in(zone, first), midnight_in(zone, last)
        infos = dag.iter_dagrun_infos_between(*bounds)
        found = [info.logical_date.astimezone(ZoneInfo(zone)).date() for info in infos if info.logical_date]
        assert found == expected(first, (last - first).days)


def test_backfill_form_of_the_ui_archives_the_days_that_were_picked() -> None:
    """1 to 3 March 2021, picked in New York: the browser sends its midnights as UTC instants."""
    dag = reloaded("30 20 * * *", "America/New_York")
    first, last = datetime(2021, 3, 1, 5, tzinfo=UTC), datetime(2021, 3, 3, 5, tzinfo=UTC)
    infos = dag.iter_dagrun_infos_between(first, last)
    assert [info.logical_date for info in infos] == [datetime(2021, 3, day, 1, 30, tzinfo=UTC) for day in (2, 3, 4)]


def test_moment_that_is_no_bare_date_is_taken_as_it_is() -> None:
    dag = reloaded("0 6 * * *", "America/New_York")
    # 06:00 in New York is 10:00 UTC in June.
    first, last = datetime(2026, 6, 1, 10, 0, 1, tzinfo=UTC), datetime(2026, 6, 3, 10, 0, tzinfo=UTC)
    found = [info.logical_date for info in dag.iter_dagrun_infos_between(first, last)]
    assert found == [datetime(2026, 6, 2, 10, tzinfo=UTC), datetime(2026, 6, 3, 10, tzinfo=UTC)]


def test_daily_run_falls_on_six_o_clock_before_and_after_the_clocks_change() -> None:
    dag = reloaded("0 6 * * *", "America/New_York")
    found = list(dag.iter_dagrun_infos_between(midnight_utc(date(2026, 3, 7)), midnight_utc(date(2026, 3, 9))))
    assert [info.run_after.in_timezone("UTC").hour for info in found] == [11, 10, 10]
    assert [info.logical_date for info in found] == [info.run_after for info in found]


def test_timetable_survives_serialization() -> None:
    timetable = BusinessDayTimetable("0 6 * * *", timezone="Asia/Tokyo")
    again = reloaded("0 6 * * *", "Asia/Tokyo").timetable
    assert type(again) is BusinessDayTimetable
    assert again == timetable
    assert again.summary == "06:00 Asia/Tokyo"


def test_unbounded_restriction_stays_unbounded() -> None:
    timetable = BusinessDayTimetable("0 6 * * *", timezone="UTC")
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(pendulum.datetime(2026, 1, 1, tz="UTC"), None, catchup=True),
    )
    assert info.run_after == pendulum.datetime(2026, 1, 1, 6, tz="UTC")


def first_run(now: str, last: datetime | None = None) -> datetime:
    """When a DAG without catch-up runs next: at 06:00 in New York, which is 11:00 UTC in winter."""
    timetable = BusinessDayTimetable("0 6 * * *", timezone="America/New_York")
    restriction = TimeRestriction(pendulum.datetime(2020, 1, 1, tz="UTC"), None, catchup=False)
    with time_machine.travel(datetime.fromisoformat(now), tick=False):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=None if last is None else DataInterval.exact(pendulum.instance(last)),
            restriction=restriction,
        )
    return info.run_after


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-10T10:59:00+00:00", "2026-01-10T11:00:00+00:00"),
        ("2026-01-10T11:00:00+00:00", "2026-01-10T11:00:00+00:00"),
        # The hour's grace: the DAG processor looks again after the hour has come, and before the run is made.
        ("2026-01-10T11:59:00+00:00", "2026-01-10T11:00:00+00:00"),
        ("2026-01-10T12:00:01+00:00", "2026-01-11T11:00:00+00:00"),
        ("2026-01-10T20:00:00+00:00", "2026-01-11T11:00:00+00:00"),
        # An hour after midnight UTC the grace begins at a bare date, and is none.
        ("2026-01-10T01:00:00+00:00", "2026-01-10T11:00:00+00:00"),
    ],
)
def test_dag_that_never_ran_waits_for_its_hour(now: str, expected: str) -> None:
    assert first_run(now) == datetime.fromisoformat(expected)


def test_backfill_of_old_days_makes_no_run_that_nobody_asked_for() -> None:
    last = datetime(2025, 3, 9, 10, tzinfo=UTC)
    assert first_run("2026-01-10T20:00:00+00:00", last) == datetime(2026, 1, 11, 11, tzinfo=UTC)
    assert first_run("2026-01-10T11:00:30+00:00", last) == datetime(2026, 1, 10, 11, tzinfo=UTC)


def test_dag_that_ran_before_takes_up_its_latest_day_and_no_other() -> None:
    last = datetime(2026, 1, 5, 11, tzinfo=UTC)
    assert first_run("2026-01-10T20:00:00+00:00", last) == datetime(2026, 1, 10, 11, tzinfo=UTC)
    last = datetime(2026, 1, 10, 11, tzinfo=UTC)
    assert first_run("2026-01-10T20:00:00+00:00", last) == datetime(2026, 1, 11, 11, tzinfo=UTC)


def test_schedule_is_shown_with_its_zone() -> None:
    assert reloaded("30 20 * * *", "America/New_York").timetable.summary == "20:30 America/New_York"


@pytest.mark.parametrize("kind", list(DagRunType))
def test_run_id_begins_with_the_business_day(kind: DagRunType) -> None:
    run_after = pendulum.datetime(2026, 3, 9, 0, 30, tz="UTC")
    made = reloaded("30 20 * * *", "America/New_York").timetable.generate_run_id(
        run_type=kind, run_after=run_after, data_interval=None
    )
    assert made == f"{kind.value}__2026-03-08T20:30:00-04:00"
    assert DagRunType.from_run_id(made) is kind
    assert re.fullmatch(conf.get("scheduler", "allowed_run_id_pattern"), made)


def test_run_id_of_a_backfill_begins_with_the_business_day() -> None:
    """By Airflow's own naming, which asks no timetable."""
    dag = reloaded("30 20 * * *", "America/New_York")
    infos = dag.iter_dagrun_infos_between(midnight_utc(date(2026, 3, 7)), midnight_utc(date(2026, 3, 8)))
    kind = DagRunType.BACKFILL_JOB
    made = [
        DagRun.generate_run_id(run_type=kind, logical_date=info.logical_date, run_after=info.run_after)
        for info in infos
    ]
    assert made == ["backfill__2026-03-07T20:30:00-05:00", "backfill__2026-03-08T20:30:00-04:00"]


def test_hour_that_comes_twice_makes_two_run_ids() -> None:
    timetable = reloaded("30 1 * * *", "America/New_York").timetable
    hours = [pendulum.datetime(2026, 11, 1, hour, 30, tz="UTC") for hour in (5, 6)]
    made = {timetable.generate_run_id(run_type=DagRunType.MANUAL, run_after=at, data_interval=None) for at in hours}
    assert made == {"manual__2026-11-01T01:30:00-04:00", "manual__2026-11-01T01:30:00-05:00"}
