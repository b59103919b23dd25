"""What all DAGs share: configuration options, retry policy, check of a run's configuration, default arguments.

What shapes a DAG (its cron expression, its zone) must be known while its file is parsed, when nothing may be read.
These few values are therefore Airflow configuration options, section ``[pipelines]``, which cost no call: on MWAA an
environment's "Airflow configuration options", elsewhere ``AIRFLOW__PIPELINES__...``. All else is in the Variable
``settings``, read at run time.
"""

from __future__ import annotations

import logging
import random
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pendulum
from airflow.sdk import Context, RetryDecision, RetryPolicy
from airflow.sdk.configuration import conf

from airflow_ext.ids import (
    CALL_DETAILS_INGEST,
    CALL_DETAILS_REPLAY,
    CALL_DETAILS_WATCH,
    DEX_TRIGGER_ARCHIVE,
    ENERGY_AUCTION,
    EVENT_DELIVERY,
    OWNER,
)
from include.alerts import RUNBOOK
from include.errors import Backoff, PermanentError, RunRefusedError, SettingsError, TransientError, describe
from include.text import one_line

_SECTION = "pipelines"

log = logging.getLogger(__name__)

_NAME = r"(?:\d+|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)"
_ELEMENT = rf"(?:\*|{_NAME}(?:-{_NAME})?)(?:/\d+)?"
_FIVE_FIELDS = re.compile(
    rf"{_ELEMENT}(?:,{_ELEMENT})*(?:[ \t]+{_ELEMENT}(?:,{_ELEMENT})*){{4}}", re.ASCII | re.IGNORECASE
)


def schedule_of(dag_id: str, *, default: str) -> str:
    """The cron expression of a DAG: option ``<dag_id>_schedule``.

    Raises:
        SettingsError: it has other than five fields, or a ``?``, ``L``, ``W`` or ``#``. Airflow reads a sixth field as
            seconds, so that EventBridge's ``0 6 * * ? *`` would start sixty runs.
    """
    option = f"{dag_id}_schedule"
    expression = str(conf.get(_SECTION, option, fallback=default)).strip()
    if not _FIVE_FIELDS.fullmatch(expression):
        raise SettingsError(
            f"option [{_SECTION}] {option}: {expression!r} is not a cron expression of five fields (minute, hour, "
            "day of the month, month, day of the week), such as '30 20 * * 1-5'; a field of seconds or years and the "
            "characters ? L W # are not supported"
        )
    return expression


def schedule_timezone() -> str:
    """The zone of the cron expressions: option ``business_timezone``, to be equal to the setting of that name."""
    return str(conf.get(_SECTION, "business_timezone", fallback="America/New_York"))


_DAILY = re.compile(r"(\d{1,2})\s+(\d{1,2})\s+\*\s+\*\s+\*")
_MINUTES = re.compile(r"\*(?:/(\d+))?\s+\*\s+\*\s+\*\s+\*")


def schedule_text(expression: str, zone: str) -> str:
    """A cron expression of five fields for people: ``20:30 America/New_York``, ``every minute (UTC)``."""
    if daily := _DAILY.fullmatch(expression):
        return f"{int(daily[2]):02}:{int(daily[1]):02} {zone}"
    if minutes := _MINUTES.fullmatch(expression):
        return f"every {f'{minutes[1]} minutes' if minutes[1] else 'minute'} ({zone})"
    return f"cron {expression} {zone}"


_TO_RUNBOOK = re.compile(r"\[([^]]+)]\(docs/RUNBOOK\.md(#[^)]+)\)")


def common(manual: str, schedule: str) -> dict[str, Any]:
    """What each DAG is given: no catch-up; and name, description and page in the UI, from the docstring of its file.

    Args:
        manual: a heading, a first sentence, and the rest; its links to the runbook lead to option ``runbook_url``,
            and name its place in the repository where there is none.
        schedule: for people, with its zone.
    """
    title, sentence = re.split(r"\n\n+", manual.strip(), maxsplit=2)[:2]
    url = str(conf.get(_SECTION, "runbook_url", fallback=RUNBOOK))

    def link(found: re.Match[str]) -> str:
        # A place in the repository is no address for a browser.
        return f"{found[1]} ({url}{found[2]})" if url == RUNBOOK else f"[{found[1]}]({url}{found[2]})"

    return {
        # Before any day that somebody may ask for: a run by hand of an earlier one has no tasks, and is a success.
        "start_date": pendulum.datetime(2000, 1, 1, tz="UTC"),
        "catchup": False,
        "dag_display_name": title.removeprefix("# "),
        "description": f"{' '.join(sentence.split())} Schedule: {schedule}.",
        "doc_md": _TO_RUNBOOK.sub(link, manual),
    }


def alert_topic() -> str | None:
    """ARN of the alerts' topic where the settings, which name it too, cannot be read: option ``alert_topic_arn``."""
    return str(conf.get(_SECTION, "alert_topic_arn", fallback="")) or None


def ui_url(path: str) -> str:
    """Address of a page of Airflow's UI."""
    return f"{conf.get('api', 'base_url', fallback='http://localhost:8080').rstrip('/')}{path}"


OPERATIONS_PAGE = "/plugin/operations"
"""Where the UI has the page that plugins/pipelines_plugin.py registers."""

OPERATIONS_VIEWS = {
    DEX_TRIGGER_ARCHIVE: "days",
    ENERGY_AUCTION: "orders",
    CALL_DETAILS_WATCH: "files",
    CALL_DETAILS_INGEST: "files",
    CALL_DETAILS_REPLAY: "files",
    EVENT_DELIVERY: "events",
}
"""The view of each DAG."""


def operations_url(dag_id: str, day: date | None = None) -> str:
    """Address of a DAG's view of the operations page, on a day if that is what the view shows."""
    return ui_url(f"{OPERATIONS_PAGE}/{OPERATIONS_VIEWS.get(dag_id, '')}{f'?day={day}' if day else ''}")


MAX_BACKOFF_SECONDS = 600.0
MAX_RETRY_AFTER_SECONDS = 3600.0
"""A partner that asks for more is asked again after this time."""
_MAX_REASON = 1000


@dataclass(frozen=True)
class TypedRetryPolicy(RetryPolicy):
    """The policy of all tasks: permanent errors fail at once, others are retried with exponential backoff and jitter.

    The first delay is about ``[pipelines] retry_base_seconds`` (default 30) and doubles with each try, up to ten
    minutes. A ``Retry-After`` is honoured as the least delay. The jitter is drawn here because Airflow's own
    ignores the map index: mapped tasks that failed together would return together.

    The first delay is no longer than ``max_base`` seconds, whatever the option says (for runs that have only minutes),
    and none grows beyond ``ceiling`` seconds.
    """

    max_base: float = MAX_BACKOFF_SECONDS
    ceiling: float = MAX_BACKOFF_SECONDS

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the exception's branch of :mod:`include.errors`; unknown exceptions count as transient."""
        if isinstance(exception, PermanentError):
            return RetryDecision.fail(reason=one_line(describe(exception), _MAX_REASON))
        base = min(base_seconds(), self.max_base)
        delay = backoff_seconds(try_number, base=base, ceiling=self.ceiling)
        if isinstance(exception, TransientError) and exception.retry_after is not None:
            delay = max(delay, pause_seconds(exception, base=base))
        return RetryDecision.retry(delay=timedelta(seconds=delay), reason=one_line(describe(exception), _MAX_REASON))


def pause_seconds(error: TransientError, *, base: float | None = None) -> float:
    """How long to wait for what an error asks for: not less, and not all for the same time."""
    spread = random.uniform(0, base_seconds() if base is None else base)  # noqa: S311 - spreads load
    return min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS) + spread


def base_seconds() -> float:
    """About how long the first retry waits: option ``[pipelines] retry_base_seconds``."""
    return float(conf.getfloat(_SECTION, "retry_base_seconds", fallback=30.0))


def backoff_seconds(try_number: int, *, base: float, ceiling: float = MAX_BACKOFF_SECONDS) -> float:
    """Seconds to wait after try ``try_number`` (from 1): half of the doubled base for sure, half at random."""
    return Backoff(first=base / 2, longest=ceiling / 2, jitter=1.0).seconds(try_number)


def refuse_unknown_keys(context: Context) -> None:
    """``pre_execute`` of every task: refuse a run whose configuration has a key that is no param of its DAG.

    Airflow accepts such a key, and the param that was meant keeps its default: everybody, or for real.

    Raises:
        RunRefusedError: names the key and the nearest param.
    """
    if (reason := unknown_key(context)) is not None:
        log.error("RunRefusedError: %s", reason)
        raise RunRefusedError(reason)


def unknown_key(context: Context) -> str | None:
    """What is wrong with the run's configuration, or None."""
    params = list(context["dag"].params)
    unknown = [key for key in context["dag_run"].conf or {} if key not in params]
    if not unknown:
        return None
    key = str(unknown[0])
    if not params:
        known = "this DAG takes no params"
    else:
        # Here: DAG files import this module.
        from difflib import SequenceMatcher

        nearest = max(params, key=lambda param: SequenceMatcher(None, key.lower(), param.lower()).ratio())
        known = f"did you mean {nearest!r}? Params: {', '.join(params)}"
    return f"{one_line(key, 100)!r} in the run's configuration is no param of this DAG; {known}"


def started_at(context: Context) -> datetime | None:
    """When the run started; None if that is not known, as ``airflow dags test`` writes its logical date there."""
    dag_run = context["dag_run"]
    return None if dag_run.start_date == dag_run.logical_date else dag_run.start_date


def began_at(context: Context) -> datetime:
    """When the run started, or was to start if that is not known."""
    return started_at(context) or context["dag_run"].run_after


def is_last_try(context: Context) -> bool:
    """Whether no retry of the task follows, whatever happens in this one."""
    return context["ti"].try_number > context["ti"].max_tries


def by_person(context: Context) -> bool:
    """Whether a person started the run, and so sees without an alert that it was refused."""
    return context["dag_run"].run_type in ("manual", "backfill")


TASK_DEFAULTS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 5,
    "retry_policy": TypedRetryPolicy(),
    # For a task that was killed: no exception is left for the policy to judge.
    "retry_delay": timedelta(seconds=base_seconds()),
    "execution_timeout": timedelta(hours=1),
    "pre_execute": refuse_unknown_keys,
}
"""``default_args`` of every DAG: the error decides whether a retry makes sense, ``retries`` how often."""

_SHORT_BASE_SECONDS = 5.0

SHORT_RUN_DEFAULTS: dict[str, Any] = {
    **TASK_DEFAULTS,
    "retries": 3,
    "retry_policy": TypedRetryPolicy(max_base=_SHORT_BASE_SECONDS, ceiling=20.0),
    "retry_delay": timedelta(seconds=min(base_seconds(), _SHORT_BASE_SECONDS)),
    # Beyond what the tasks allow themselves (include/auction/deadlines.py): it ends one without an outcome.
    "execution_timeout": timedelta(seconds=280),
}
"""The same for DAGs whose runs must end within five minutes."""

WATCH_DEFAULTS: dict[str, Any] = {
    **TASK_DEFAULTS,
    # Some minutes, within which a file that is dropped now does not wait long for one that cannot be taken.
    "retries": 8,
    "retry_policy": TypedRetryPolicy(ceiling=60.0),
}
"""The same for DAGs that others wait for all the time."""

ACCOUNTING: dict[str, Any] = {
    "trigger_rule": "all_done",
    # Beyond a quarter of an hour in which a service fails, whatever the first delay is.
    "retries": 14,
    "retry_policy": TypedRetryPolicy(ceiling=300.0),
}
"""Of the task that accounts for a run, whatever happened before, where no later run makes up for it."""
