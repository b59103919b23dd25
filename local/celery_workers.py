"""Celery workers beside the scheduler, as an MWAA environment has several."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from local.layout import PYTHON
from local.processes import Command, StackError

WORKER_NAMES = ("worker-1", "worker-2")

_NAME_VARIABLE = "PIPELINES_WORKER"
_ANSWER_SECONDS = 1.0


def worker_name() -> str:
    """The worker's name, which Airflow notes as the host of each task: here all workers are on one machine."""
    return os.environ[_NAME_VARIABLE]


def worker_commands(environment: Mapping[str, str]) -> list[Command]:
    """Two workers; they need the tables and the broker.

    A worker's server of logs would listen on all interfaces, and is not needed where all services read the same
    files.
    """
    return [
        Command(
            name=name,
            arguments=[
                PYTHON, "-m", "airflow", "celery", "worker", "--celery-hostname", name,
                "--skip-serve-logs", "--without-mingle", "--without-gossip",
            ],
            environment={
                **environment,
                _NAME_VARIABLE: name,
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.{worker_name.__name__}",
            },
            # As Airflow's other services: who stops the stack does not wait for its tasks.
            grace=3.0,
        )
        for name in WORKER_NAMES
    ]  # fmt: skip


async def wait_for_workers(broker_url: str, *, timeout: float) -> None:
    """Wait until every worker answers through the broker.

    Raises:
        StackError: one did not in `timeout` seconds.
    """
    silent = set(WORKER_NAMES)
    try:
        async with asyncio.timeout(timeout):
            while silent:
                # Each question waits for its answers.
                silent -= await asyncio.to_thread(_answering, broker_url)
    except TimeoutError:
        raise StackError(f"no answer from {', '.join(sorted(silent))} after {timeout:.0f} s: see the logs") from None


def _answering(broker_url: str) -> set[str]:
    from celery import Celery  # type: ignore[import-untyped]

    with Celery(broker=broker_url, set_as_current=False) as app:
        answers = app.control.ping(timeout=_ANSWER_SECONDS)
    # Celery calls a worker celery@<its name>.
    return {name.partition("@")[2] or name for answer in answers for name in answer}
