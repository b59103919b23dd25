"""Defaults shared by the DAGs, and the deployment's configuration options.

What shapes a DAG (its cron, its zone) must be known while its file is parsed, when nothing may be read. These
few values are therefore Airflow configuration options, section ``[pipelines]``, which cost no call: on MWAA an
environment's "Airflow configuration options", elsewhere ``AIRFLOW__PIPELINES__...``. All else is in the Variable
``settings``, read at run time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk.configuration import conf

from airflow_ext.retry import TypedRetryPolicy, base_seconds

_SECTION = "pipelines"

TASK_DEFAULTS: dict[str, Any] = {
    "retries": 5,
    "retry_policy": TypedRetryPolicy(),
    # For a task that was killed: no exception is left for the policy to judge.
    "retry_delay": timedelta(seconds=base_seconds()),
    "execution_timeout": timedelta(hours=1),
}
"""``default_args`` of every DAG: the error decides whether a retry makes sense, ``retries`` how often."""

_SHORT_BASE_SECONDS = 5.0

SHORT_RUN_DEFAULTS: dict[str, Any] = {
    **TASK_DEFAULTS,
    "retries": 3,
    "retry_policy": TypedRetryPolicy(max_base=_SHORT_BASE_SECONDS, ceiling=20.0),
    "retry_delay": timedelta(seconds=min(base_seconds(), _SHORT_BASE_SECONDS)),
    # Beyond what the tasks allow themselves (include/auction/times.py): it ends one without an outcome.
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


def schedule_of(dag_id: str, *, default: str) -> str:
    """The cron expression of a DAG: option ``<dag_id>_schedule``."""
    return str(conf.get(_SECTION, f"{dag_id}_schedule", fallback=default))


def schedule_timezone() -> str:
    """The zone of the cron expressions: option ``business_timezone``, to be equal to the setting of that name."""
    return str(conf.get(_SECTION, "business_timezone", fallback="America/New_York"))
