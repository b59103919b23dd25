"""The call-details ingest's part of the demo: files are dropped, a batch is refused, and is replayed later."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from include.ingest.identity import run_id
from local.airflow_api import AirflowApi, active_runs, has_ended
from local.demo_ingest_files import REFUSED_TEXT, drop_samples
from local.demo_ingest_found import INGEST_DAG_ID, REPLAY_DAG_ID, Replayed, find, find_replayed
from local.demo_ingest_report import report_on
from local.demo_kit import ask, rules
from local.demo_report import Report, Tell
from local.partners.call_details import BATCH_PATH
from local.partners.management import RECEIVED_PATH
from local.processes import StackError
from local.stack import Stack

WATCH_DAG_ID = "call_details_watch"

_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.5
_LATENCY_MS = 200


def run_ingest(stack: Stack, tell: Tell) -> Report:
    """Drop all samples while the API refuses a batch of one, then let it take that batch from a replay."""
    dropped = drop_samples(stack.aws("s3"), stack.ingest_bucket)
    batches = sum(len(each.batches) for each in dropped)
    started = time.monotonic()
    with AirflowApi(stack) as airflow, httpx.Client(base_url=stack.partners_url, timeout=30) as partners:

        def poll() -> None:
            tell(int(ask(partners, RECEIVED_PATH)["batches"]), batches)

        refusal = {"path": BATCH_PATH, "contains": REFUSED_TEXT, "status": httpx.codes.UNPROCESSABLE_ENTITY}
        with rules(partners, refusal, latency_ms=_LATENCY_MS):
            for dag_id in (INGEST_DAG_ID, WATCH_DAG_ID):
                airflow.unpause(dag_id)
            wait_for_runs(airflow, [run_id(each.file) for each in dropped], on_poll=poll)
        for dag_id in (WATCH_DAG_ID, INGEST_DAG_ID):
            airflow.unpause(dag_id, paused=True)
        found = find(stack, airflow, partners)
        replayed = _replay(stack, airflow, partners, poll)
        end_watch(airflow)
        seconds = time.monotonic() - started
        most_calls = ask(partners, "/journal", limit=0)["max_concurrent"].get(BATCH_PATH, 0)
        active = [run for dag_id in (WATCH_DAG_ID, INGEST_DAG_ID) for run in active_runs(airflow, dag_id)]
    return report_on(dropped, found, replayed, seconds=seconds, most_calls=most_calls, active=active)


def wait_for_runs(
    airflow: AirflowApi, run_ids: list[str], *, on_poll: Callable[[], None], poll: float = _POLL_SECONDS
) -> None:
    """Wait until all these runs of the ingest were started by the watcher and have ended.

    Raises:
        StackError: they have not within five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while missing := set(run_ids) - {run["dag_run_id"] for run in airflow.runs(INGEST_DAG_ID) if has_ended(run)}:
        if time.monotonic() > deadline:
            raise StackError(
                f"of {INGEST_DAG_ID}, these runs did not end within {_TIMEOUT_SECONDS:.0f} s: "
                f"{', '.join(sorted(missing))}"
            )
        on_poll()
        time.sleep(poll)
    on_poll()


def end_watch(airflow: AirflowApi) -> None:
    """End the round of the watcher that waits for the next file; it has been paused, so that no other follows.

    A DAG that is paused leaves its runs as they are: the round would wait until the DAG is switched on again.
    """
    for waiting in active_runs(airflow, WATCH_DAG_ID):
        airflow.end(WATCH_DAG_ID, waiting)


def _replay(stack: Stack, airflow: AirflowApi, partners: httpx.Client, poll: Callable[[], None]) -> Replayed:
    """Replay the queue, as somebody does once the API takes again what it refused."""
    airflow.unpause(REPLAY_DAG_ID)
    run = airflow.wait(
        REPLAY_DAG_ID,
        airflow.trigger(REPLAY_DAG_ID),
        timeout=_TIMEOUT_SECONDS,
        on_poll=poll,
        poll=_POLL_SECONDS,
    )
    airflow.unpause(REPLAY_DAG_ID, paused=True)
    return find_replayed(stack, airflow, partners, run)
