"""How long an event takes from the API's `201` to its first post, when nothing else is under way."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx

from benchmarks.bench import DELIVERY_DAG, Bench, BenchmarkError
from benchmarks.delivery_backlog import Receivers
from lambdas.common.aws import timestamp
from lambdas.tools.api_keys import KeyTable
from local.clients import AirflowApi, active_runs
from local.stack.description import Stack

_OWNER = "benchmark-idle"
_EVENT = {"event_type": "order.placed", "payload": {"order": "B-1"}}
_ARRIVES_WITHIN_SECONDS = 120.0
_LOOK_EVERY_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 3.0


def seconds_to_first_post(bench: Bench, receivers: Receivers, posts: int) -> list[float]:
    """Post events to the API one by one, each when no run is left of the one before; seconds of each.

    The first one is not counted: Airflow may not listen to the queue yet, as the DAG has just been switched on.

    Raises:
        httpx.HTTPStatusError: the API refused one.
        BenchmarkError: one did not arrive.
    """
    receivers.subscribe([_OWNER])
    return list(_seconds(bench.stack, receivers, 1 + posts))[1:]


def _seconds(stack: Stack, receivers: Receivers, posts: int) -> Iterator[float]:
    tables = stack.aws("dynamodb")
    key = KeyTable(tables, stack.api_keys_table).create(_OWNER, None, timestamp(datetime.now(UTC)))
    headers = {"Authorization": f"Bearer {key}"}
    with AirflowApi(stack) as airflow, httpx.Client(base_url=stack.events_api_url, headers=headers, timeout=30) as api:
        for _ in range(posts):
            answer = api.post("/events", json=_EVENT)
            answered = time.time()
            yield _arrival(receivers, answer.raise_for_status().json()["event_id"]) - answered
            while active_runs(airflow, DELIVERY_DAG):
                time.sleep(_LOOK_EVERY_SECONDS)
            # Queue, triggerer and scheduler are looked at every so often: no post is to come at the same point of that.
            time.sleep(random.uniform(0, _MAX_PAUSE_SECONDS))


def _arrival(receivers: Receivers, event_id: str) -> float:
    """When an event arrived, seconds since the epoch."""
    deadline = time.monotonic() + _ARRIVES_WITHIN_SECONDS
    while time.monotonic() < deadline:
        for arrival in receivers.arrived(receiver=_OWNER):
            if arrival["webhook_id"] == event_id:
                return float(arrival["at"])
        time.sleep(_LOOK_EVERY_SECONDS)
    raise BenchmarkError(f"{event_id} has not been posted within {_ARRIVES_WITHIN_SECONDS:.0f} s")
