"""A daily cron whose backfill range is a range of business days."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any

from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable
from pendulum import UTC, DateTime

from airflow_ext.defaults import schedule_text

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, DataInterval
    from airflow.utils.types import DagRunType


class BusinessDayTimetable(CronTriggerTimetable):
    """Fires by cron in the business zone; a range given in bare dates covers those business days whole.

    ``airflow backfill create --from-date 2026-03-01 --to-date 2026-03-07`` gives its bounds as midnights in UTC.
    Taken literally they would shift the range by a day (20:30 in New York is after midnight in UTC) or, east of UTC,
    cut off the first. A bound at midnight UTC is therefore read as that calendar day in the business zone: from its
    start, or to its end. So is a midnight of the business zone: the UI's form sends the midnights of its browser as
    UTC instants. Any other bound is taken as it is.

    A day missed by a DAG without catch-up is made up for if the DAG ran within the last week. One that did not, or
    never, waits for its hour: neither switching it on nor a backfill of old days (which Airflow takes for its latest
    run) archives a day that nobody asked for.
    """

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule: ``20:30 America/New_York``."""
        return schedule_text(self._expression, self._timezone.name)

    def generate_run_id(self, *, run_type: DagRunType, run_after: DateTime, **more: Any) -> str:
        """The run's time in the business zone, so that its id begins with the business day."""
        return run_type.generate_run_id(suffix=run_after.in_timezone(self._timezone).isoformat())

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run within the restriction, its bare dates read as business days."""
        earliest, last, now = restriction.earliest, last_automated_data_interval, DateTime.now(UTC)
        if not restriction.catchup and (last is None or last.end < now.subtract(weeks=1)):
            # An hour's grace: the DAG processor asks again and again, also between the hour and the scheduler's run.
            last, since = None, now.subtract(hours=1)
            earliest = since if earliest is None else max(earliest, since)
        info = super().next_dagrun_info(
            last_automated_data_interval=last,
            restriction=TimeRestriction(
                earliest=self._day_start(earliest),
                latest=self._day_end(restriction.latest),
                catchup=restriction.catchup,
            ),
        )
        # A backfill names its runs by this time as it is written, and not by generate_run_id.
        return info and info._replace(run_after=info.run_after.in_timezone(self._timezone))

    def _day_start(self, bound: DateTime | None) -> DateTime | None:
        day = self._day(bound)
        return bound if day is None else self._midnight(day)

    def _day_end(self, bound: DateTime | None) -> DateTime | None:
        day = self._day(bound)
        return bound if day is None else self._midnight(day + timedelta(days=1)) - timedelta(microseconds=1)

    def _day(self, bound: DateTime | None) -> date | None:
        """The day that a bound means, if it means a whole one."""
        if bound is None:
            return None
        if (utc := bound.in_timezone(UTC)).time() == time.min:
            return utc.date()
        local = bound.in_timezone(self._timezone)
        # A day whose midnight the clocks skip begins later; one whose midnight comes twice may begin at either.
        return local.date() if local.time() == time.min or bound == self._midnight(local.date()) else None

    # _timezone is the base class's own; it has no public form but text. test_timetables.py notices if it goes.
    def _midnight(self, day: date) -> DateTime:
        # In UTC: Python never calls a local time that comes twice equal to one of another zone (PEP 495), and
        # Airflow compares this bound with the run that falls on it.
        return DateTime.create(day.year, day.month, day.day, tz=self._timezone).in_timezone(UTC)
