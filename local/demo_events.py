"""The events API's part of the demo: events are posted, and delivered to receivers of which not all are well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from local.airflow_api import AirflowApi, active_runs
from local.demo_events_found import DAG_ID, Document, find
from local.demo_events_posts import (
    DOWN,
    FLAKY,
    MOST_ATTEMPTS,
    POSTS,
    READER,
    RULES,
    STEADY,
    Callers,
    id_of,
    make_key,
    subscribe,
)
from local.demo_events_report import report_on
from local.demo_kit import json_of, rules
from local.demo_report import Report, Tell
from local.partners.management import SECRETS_PATH
from local.processes import StackError
from local.stack import Stack

_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.5


def run_events(stack: Stack, tell: Tell) -> Report:
    """Make keys and subscriptions, post events, and see them delivered, repeated, given up, or fetched."""
    started = time.monotonic()
    with (
        AirflowApi(stack) as airflow,
        httpx.Client(base_url=stack.partners_url, timeout=30) as partners,
        httpx.Client(base_url=stack.events_api_url, timeout=30) as api,
        _settings(stack, max_delivery_attempts=MOST_ATTEMPTS),
        rules(partners, *RULES),
    ):
        # The queue is listened to some seconds after this: the keys are made meanwhile.
        airflow.unpause(DAG_ID)
        airflow.parse(DAG_ID)
        callers = Callers(api, {owner: make_key(stack, owner) for owner in (STEADY, FLAKY, DOWN, READER)})
        secrets = {owner: subscribe(stack, owner) for owner in (STEADY, FLAKY, DOWN)}
        partners.put(SECRETS_PATH, json=secrets).raise_for_status()
        said = callers.say_all()
        posted = [(post.owner, id_of(answer)) for post, answer in zip(POSTS, said.posts, strict=True)]

        def read() -> list[Document]:
            found = [json_of(callers.ask(owner, "GET", f"/events/{id_}")) for owner, id_ in posted if owner != READER]
            tell(sum(event.get("status") != "pending" for event in found), len(found))
            return found

        wait_until_settled(airflow, read)
        pause_when_idle(airflow)
        events = {id_: callers.ask(owner, "GET", f"/events/{id_}") for owner, id_ in posted}
        found = find(stack, airflow, partners, events)
        seconds = time.monotonic() - started
    return report_on(said, found, url=stack.events_api_url, table=stack.events_table, seconds=seconds)


def wait_until_settled(airflow: AirflowApi, read: Callable[[], list[Document]], *, poll: float = _POLL_SECONDS) -> None:
    """Wait until no event is pending any more, and the queue has started a run.

    A repetition that is due while no run is active would wait for the next minute's; a run is then started by hand.

    Args:
        airflow: with the delivery switched on.
        read: the events as they are.
        poll: seconds between two looks.

    Raises:
        StackError: it takes longer than five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        pending = [event for event in read() if event.get("status") == "pending"]
        woken = any(run["run_type"] == "asset_triggered" for run in airflow.runs(DAG_ID))
        if woken and not pending:
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"after {_TIMEOUT_SECONDS:.0f} s, {len(pending)} events were pending, "
                f"and the queue had started {'a' if woken else 'no'} run"
            )
        if any(map(_is_due_again, pending)) and not active_runs(airflow, DAG_ID):
            airflow.trigger(DAG_ID)
        time.sleep(poll)


def pause_when_idle(airflow: AirflowApi, *, poll: float = _POLL_SECONDS) -> None:
    """Pause the delivery at a moment at which it has no run: a paused DAG's run would never end.

    Raises:
        StackError: there was no such moment within five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        if not active_runs(airflow, DAG_ID):
            airflow.unpause(DAG_ID, paused=True)
            if not active_runs(airflow, DAG_ID):
                return
            # One has begun in between.
            airflow.unpause(DAG_ID)
        if time.monotonic() > deadline:
            raise StackError(f"{DAG_ID} was never without a run for {_TIMEOUT_SECONDS:.0f} s")
        time.sleep(poll)


def _is_due_again(event: Document) -> bool:
    """Whether a pending event was posted in vain, and may be posted again."""
    return event["delivery_attempts"] > 0 and datetime.fromisoformat(event["next_attempt_at"]) <= datetime.now(UTC)


@contextmanager
def _settings(stack: Stack, **changes: Any) -> Iterator[None]:
    """Change settings, as an operator does, until the block ends."""
    secrets = stack.aws("secretsmanager")
    before = secrets.get_secret_value(SecretId=stack.settings_variable)["SecretString"]
    changed = json.dumps({**json.loads(before), **changes})
    secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=changed)
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=before)
