"""The steps of ``event_delivery``, each as a task runs it, without Airflow around it, and all that surrounds them."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_ext.ids import EVENT_DELIVERY
from airflow_ext.tasks import event_delivery
from include.delivery.due import EVENTS_PER_TASK
from include.delivery.report import DELIVER_TASK, SELECT_TASK
from include.errors import PipelineError, WorkFailedError
from tests.worlds.airflow import FakeRun
from tests.worlds.dynamodb import EVENTS, SUBSCRIPTIONS, FakeEventTables, event_item
from tests.worlds.http import OK, PUBLIC, FakeNames, FakeNetwork
from tests.worlds.pipeline import PipelineWorld
from tests.worlds.sqs import QUEUE_URL, FakeSqs

SUMMARY_TASK = "summarize"
DOWN = b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 410 x\r\nContent-Length: 0\r\n\r\n"


@dataclass
class DeliveryRuns(PipelineWorld):
    """What surrounds the delivery's tasks: tables, queue, webhooks.

    Every webhook lies at one public address. ``network.servers[PUBLIC]`` is what answers there.
    """

    SETTINGS = {  # noqa: RUF012 - declared by the base class
        "events_table": EVENTS,
        "subscriptions_table": SUBSCRIPTIONS,
        "event_queue_url": "https://sqs.test/000000000000/event-delivery-test",
        "event_dlq_url": QUEUE_URL,
        "delivery_tasks": 2,
        # An event that is refused then has failed, and nobody waits for another attempt.
        "max_delivery_attempts": 1,
    }

    tables: FakeEventTables = field(default_factory=FakeEventTables)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    network: FakeNetwork = field(default_factory=FakeNetwork)
    names: FakeNames = field(default_factory=lambda: FakeNames({}))

    def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        network = {"lookup": self.names, "open_socket": self.network.open_socket, "tls": self.network.tls}
        return {"dynamodb": self.tables, "sqs": self.sqs}, {"network": network}

    def add(self, count: int, owner: str = "acme", *, first: int = 1, scheme: str = "https", **changes: Any) -> None:
        """Store so many due events of an owner, and its subscription."""
        created, numbers = time.time() - 60, range(first, first + count)
        self.tables.add(*(event_item(n, owner, created=created + n / 1000, **changes) for n in numbers))
        self.tables.subscribe(owner, f"{scheme}://{owner}.test/hook")
        self.names.answers[f"{owner}.test"] = [[PUBLIC]]

    def fill_task(self, owner: str) -> None:
        """Count so many events of an owner that they are a task's share."""
        self.tables.add_lane(owner, EVENTS_PER_TASK, created=time.time() - 60)

    def answer(self, *replies: bytes) -> None:
        """Let the webhooks answer so; the last reply stays."""
        self.network.servers[PUBLIC] = list(replies or (OK,))

    def posted(self) -> list[bytes]:
        """Every post of each connection, as it was written."""
        return [b"POST " + each for stream in self.network.streams for each in stream.written.split(b"POST ")[1:]]

    def dead(self) -> list[str]:
        return [json.loads(body)["event_id"] for body in self.sqs.bodies]

    def told(self) -> list[str]:
        """The subjects of all alerts, each of which went through both channels."""
        assert len(self.wire.sns) == len(self.wire.slack)
        return [message["Subject"] for message in self.wire.sns]


def event_id(number: int) -> str:
    """The id of an event by the number that it was stored under."""
    return f"evt_{number:012d}"


def delivery_run(run_type: str = "asset_triggered") -> FakeRun:
    """A run that has just begun."""
    return FakeRun(f"{run_type}__1", run_type, dag_id=EVENT_DELIVERY, start_date=datetime.now(UTC))


def select_due(run: FakeRun) -> list[list[str]]:
    with run.task(SELECT_TASK) as context:
        shares = event_delivery.select_due(context)
        # As Airflow pushes what a task returns.
        context["ti"].xcom_push(key="return_value", value=shares)
        return shares


def deliver(run: FakeRun, index: int, owners: list[str], *, try_number: int = 1) -> dict[str, Any]:
    with run.task(DELIVER_TASK, index, try_number=try_number) as context:
        document = event_delivery.deliver(context, owners)
        context["ti"].xcom_push(key="return_value", value=document)
        return document


def summarize(run: FakeRun) -> dict[str, Any]:
    return event_delivery.summarize(run.context(SUMMARY_TASK))


def whole_run(run: FakeRun) -> dict[str, Any]:
    """All tasks; failures before the last one stay in the run, as in Airflow."""
    try:
        for index, owners in enumerate(select_due(run)):
            deliver(run, index, owners)
    except PipelineError:
        pass
    return summarize(run)


def summary_fails(run: FakeRun, says: str | None = None) -> None:
    """The last task, which fails the run, and why."""
    with pytest.raises(WorkFailedError, match=says):
        summarize(run)
