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
    """

    def next_dagrun_info(
        self,
        *,
        last_automated_data_interval: DataInterval | None,
        restriction: TimeRestriction,
    ) -> DagRunInfo | None:
        """The next run within the restriction, its bare dates read as business days."""
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval,
            restriction=TimeRestriction(
                earliest=self._day_start(restriction.earliest),
                latest=self._day_end(restriction.latest),
                catchup=restriction.catchup,
            ),
        )

    def _day_start(self, bound: DateTime | None) -> DateTime | None:
        if bound is None or not _is_bare_date(bound):
            return bound
        day = bound.in_timezone(UTC)
        return DateTime.create(day.year, day.month, day.day, tz=self._timezone)

    def _day_end(self, bound: DateTime | None) -> DateTime | None:
        if bound is None or not _is_bare_date(bound):
            return bound
        next_day = bound.in_timezone(UTC).add(days=1)
        midnight = DateTime.create(next_day.year, next_day.month, next_day.day, tz=self._timezone)
        return midnight - timedelta(microseconds=1)


def _is_bare_date(moment: DateTime) -> bool:
    moment = moment.in_timezone(UTC)
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
