from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.keys import trigger_date
from include.errors import RunRefusedError

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 3, 10, 15, 0, tzinfo=UTC)

ZONES = st.sampled_from(sorted(zone for zone in available_timezones() if "/" in zone))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
OFFSETS = st.integers(-3650, 3650)


def day_of(
    *,
    requested: str | None = None,
    logical_date: datetime | None = None,
    triggered_at: datetime = NOW,
    now: datetime = NOW,
    zone: ZoneInfo = NEW_YORK,
    offset_days: int = 0,
    backfill: bool = False,
) -> date:
    return trigger_date(
        requested=requested,
        logical_date=logical_date,
        triggered_at=triggered_at,
        now=now,
        zone=zone,
        offset_days=offset_days,
        backfill=backfill,
    )


@pytest.mark.parametrize(
    ("logical_date", "expected"),
    [
        # The night of the change to daylight saving time (2026-03-08, 02:00 to 03:00 in New York).
        ("2026-03-08T04:59:59+00:00", date(2026, 3, 7)),
        ("2026-03-08T05:00:00+00:00", date(2026, 3, 8)),
        ("2026-03-08T07:00:00+00:00", date(2026, 3, 8)),
        ("2026-03-09T03:59:59+00:00", date(2026, 3, 8)),
        ("2026-03-09T04:00:00+00:00", date(2026, 3, 9)),
        # And back (2025-11-02, 02:00 to 01:00).
        ("2025-11-02T03:59:59+00:00", date(2025, 11, 1)),
        ("2025-11-02T05:30:00+00:00", date(2025, 11, 2)),
        ("2025-11-02T06:30:00+00:00", date(2025, 11, 2)),
        ("2025-11-03T04:59:59+00:00", date(2025, 11, 2)),
        ("2025-11-03T05:00:00+00:00", date(2025, 11, 3)),
    ],
)
def test_logical_date_counts_in_the_business_zone(logical_date: str, expected: date) -> None:
    assert day_of(logical_date=datetime.fromisoformat(logical_date)) == expected


def test_offset_moves_days_and_not_hours() -> None:
    # 24 hours before midnight after a 23-hour day would be two calendar days back.
    logical_date = datetime(2026, 3, 9, 0, 0, tzinfo=NEW_YORK)
    assert day_of(logical_date=logical_date, offset_days=-1) == date(2026, 3, 8)


def test_manual_run_takes_the_day_it_was_triggered_in_the_business_zone() -> None:
    assert day_of(triggered_at=datetime(2026, 3, 10, 3, 0, tzinfo=UTC)) == date(2026, 3, 9)
    assert day_of(triggered_at=datetime(2026, 3, 10, 4, 0, tzinfo=UTC)) == date(2026, 3, 10)
    assert day_of(triggered_at=NOW, offset_days=-1) == date(2026, 3, 9)


def test_manual_run_that_is_repaired_later_keeps_its_day() -> None:
    days = {day_of(triggered_at=NOW, now=NOW + timedelta(days=later)) for later in (0, 1, 30)}
    assert days == {date(2026, 3, 10)}


def test_logical_date_wins_over_the_day_of_triggering() -> None:
    # A backfill: asked for today, about a day long past.
    logical_date = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
    assert day_of(logical_date=logical_date, triggered_at=NOW) == date(2026, 1, 5)


def test_param_wins_over_logical_date_and_offset() -> None:
    logical_date = datetime(2026, 1, 1, tzinfo=UTC)
    assert day_of(requested="2026-02-28", logical_date=logical_date, offset_days=-7) == date(2026, 2, 28)


@pytest.mark.parametrize(
    "requested",
    [
        "", "today", "20260308", "2026-3-8", "2026-02-30", "2026-13-01", "2026-W10-7", "2026-03-08T00:00",
        " 2026-03-08", "2026-03-08\n", "0000-01-01", "٢٠٢٦-٠٣-٠٨", "08/03/2026",
    ],
)  # fmt: skip
def test_malformed_date_is_refused_and_named(requested: str) -> None:
    with pytest.raises(RunRefusedError) as caught:
        day_of(requested=requested)
    assert "param trigger_date" in str(caught.value)
    assert repr(requested) in str(caught.value)
    assert "YYYY-MM-DD" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "origin"),
    [
        ({"requested": "2026-03-11"}, "param trigger_date"),
        ({"logical_date": datetime(2026, 3, 11, 12, tzinfo=UTC)}, "the logical date"),
        ({"triggered_at": NOW + timedelta(days=1)}, "the day it was triggered"),
        ({"offset_days": 1}, r"the day it was triggered plus trigger_date_offset_days \(1\)"),
        ({"logical_date": NOW, "offset_days": 2}, r"the logical date plus trigger_date_offset_days \(2\)"),
    ],
    ids=str,
)
def test_future_is_refused_and_says_where_it_came_from(arguments: dict[str, object], origin: str) -> None:
    with pytest.raises(RunRefusedError, match=rf"from {origin}\) is in the future: today is 2026-03-10"):
        day_of(**arguments)


def test_today_in_the_business_zone_decides_what_is_future() -> None:
    # It is the 11th in UTC, and still the 10th in New York.
    now = datetime(2026, 3, 11, 1, 0, tzinfo=UTC)
    assert day_of(requested="2026-03-10", now=now) == date(2026, 3, 10)
    with pytest.raises(RunRefusedError):
        day_of(requested="2026-03-11", now=now)


@given(MOMENTS, ZONES, OFFSETS)
def test_day_is_the_calendar_day_in_the_zone_plus_the_offset(moment: datetime, zone: str, offset: int) -> None:
    # pendulum brings its own arithmetic and its own conversion.
    local = pendulum.instance(moment).in_timezone(zone)
    expected = date(local.year, local.month, local.day) + timedelta(days=offset)
    now = moment + timedelta(days=abs(offset) + 2)
    key = ZoneInfo(zone)
    assert day_of(logical_date=moment, now=now, zone=key, offset_days=offset) == expected


@given(MOMENTS, st.one_of(st.none(), MOMENTS), MOMENTS, ZONES, OFFSETS)
def test_day_is_never_in_the_future(
    now: datetime, logical_date: datetime | None, triggered_at: datetime, zone: str, offset: int
) -> None:
    today = now.astimezone(ZoneInfo(zone)).date()
    try:
        day = day_of(
            logical_date=logical_date, triggered_at=triggered_at, now=now, zone=ZoneInfo(zone), offset_days=offset
        )
    except RunRefusedError:
        start = (logical_date or triggered_at).astimezone(ZoneInfo(zone)).date()
        assert start + timedelta(days=offset) > today
    else:
        assert day <= today


@given(st.dates(date(1900, 1, 1), date(2026, 3, 10)), ZONES, OFFSETS, st.one_of(st.none(), MOMENTS))
def test_param_is_taken_as_it_is(day: date, zone: str, offset: int, logical_date: datetime | None) -> None:
    now = NOW + timedelta(days=1)
    assert (
        day_of(requested=day.isoformat(), logical_date=logical_date, now=now, zone=ZoneInfo(zone), offset_days=offset)
        == day
    )


def test_backfill_has_the_day_of_each_run_and_refuses_one_for_all() -> None:
    logical_date = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
    assert day_of(logical_date=logical_date, backfill=True) == date(2026, 3, 1)
    with pytest.raises(RunRefusedError, match="trigger_date in a backfill"):
        day_of(requested="2026-03-05", logical_date=logical_date, backfill=True)
