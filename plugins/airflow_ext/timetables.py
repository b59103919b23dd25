"""A daily cron whose backfill range is a range of business days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable
from pendulum import UTC, DateTime

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, DataInterval


class BusinessDayTimetable(CronTriggerTimetable):
    """Fires by cron in the business zone; a range given in bare dates covers those business days whole.

    ``airflow backfill create --from-date 2026-03-01 --to-date 2026-03-07`` gives its bounds as midnights in UTC.
    Taken literally they would cut the last day off (06:00 in New York is after midnight in UTC) or, east of UTC,
    the first. A bound at midnight UTC is therefore read as that calendar day in the business zone: from its start,
    or to its end. Any other bound is taken as it is.

    A day missed by a DAG without catch-up is made up for if the DAG ran within the last week. One that did not, or
    never, waits for its hour: neither switching it on nor a backfill of old days (which Airflow takes for its latest
    run) archives a day that nobody asked for.
    """

    def next_dagrun_info(
        self,
        *,
        last_automated_data_interval: DataInterval | None,
        restriction: TimeRestriction,
    ) -> DagRunInfo | None:
        """The next run within the restriction, its bare dates read as business days."""
        if not restriction.catchup and _is_long_ago(last_automated_data_interval):
            last_automated_data_interval = None
            restriction = restriction._replace(earliest=self._first(restriction.earliest))
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval,
            restriction=TimeRestriction(
                earliest=self._day_start(restriction.earliest),
                latest=self._day_end(restriction.latest),
                catchup=restriction.catchup,
            ),
        )

    def _first(self, earliest: DateTime | None) -> DateTime:
        # An hour's grace: the DAG processor asks again and again, also between the hour and the scheduler's run.
        since = DateTime.now(UTC).subtract(hours=1)
        return since if earliest is None else max(earliest, since)

    def _day_start(self, bound: DateTime | None) -> DateTime | None:
        if bound is None or not _is_bare_date(bound):
            return bound
        day = bound.in_timezone(UTC)
        # In UTC: Python never calls a local time that comes twice equal to one of another zone (PEP 495), and
        # Airflow compares this bound with the run that falls on it.
        return DateTime.create(day.year, day.month, day.day, tz=self._timezone).in_timezone(UTC)

    def _day_end(self, bound: DateTime | None) -> DateTime | None:
        if bound is None or not _is_bare_date(bound):
            return bound
        next_day = bound.in_timezone(UTC).add(days=1)
        midnight = DateTime.create(next_day.year, next_day.month, next_day.day, tz=self._timezone)
        return midnight - timedelta(microseconds=1)


def _is_long_ago(interval: DataInterval | None) -> bool:
    return interval is None or interval.end < DateTime.now(UTC).subtract(weeks=1)


def _is_bare_date(moment: DateTime) -> bool:
    moment = moment.in_timezone(UTC)
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
