"""What wakes the delivery: a trigger that must live as long as its triggerer."""

import asyncio
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_ext.outside import outside
from airflow_ext.triggers.sqs_wakeup import GATHER_SECONDS, PAUSE_SECONDS, EventQueueTrigger
from tests.worlds.pipeline import PLANTED, leaks
from tests.worlds.sqs import QUEUE_URL, FakeSqs

SETTINGS = {
    "environment": "local",
    "archive_bucket": "archive",
    "order_results_bucket": "order-results",
    "alerts_topic_arn": "arn:aws:sns:us-east-1:000000000000:alerts",
    "events_table": "events",
    "subscriptions_table": "subscriptions",
    "event_queue_url": QUEUE_URL,
    "event_dlq_url": f"{QUEUE_URL}-dead",
}


class Queue(FakeSqs):
    """A queue, and what happens while the trigger pauses: the next of ``meanwhile`` for each pause."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []

    def send(self, count: int) -> None:
        """Put messages in."""
        for _ in range(count):
            self.send_message(QueueUrl=QUEUE_URL, MessageBody=json.dumps({"event_id": PLANTED}))

    async def pause(self, seconds: float) -> None:
        """As ``asyncio.sleep``."""
        self.pauses.append(seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    queue = Queue()
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))
    with outside.replaced(aws={"sqs": queue}, pause=queue.pause):
        yield queue


def fired(number: int) -> list[Any]:
    """The first so many events of a trigger that made the journey through Airflow's database."""

    async def first() -> list[Any]:
        path, arguments = EventQueueTrigger().serialize()
        module, _, name = path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
        events = trigger.run()
        async with asyncio.timeout(60):
            found = [(await anext(events)).payload for _ in range(number)]
        await events.aclose()
        return found

    return asyncio.run(first())


def fail_once(queue: Queue, operation: str, error: Exception) -> None:
    def fail() -> None:
        del queue.before[operation]
        raise error

    queue.before[operation] = fail


def test_messages_that_are_there_make_one_event_and_are_gone(queue: Queue) -> None:
    queue.send(25)
    assert fired(1) == [{"messages": 25}]
    assert queue.bodies == []


def test_those_that_come_while_a_run_begins_wait_for_the_next_event(queue: Queue) -> None:
    queue.send(1)
    queue.meanwhile = [lambda: queue.send(3)]
    assert fired(2) == [{"messages": 1}, {"messages": 3}]
    assert queue.pauses == [GATHER_SECONDS]


def test_empty_queue_fires_nothing(queue: Queue) -> None:
    looks = iter(range(5))

    def look() -> None:
        if next(looks, None) is None:
            queue.before.clear()
            queue.send(1)

    queue.before["receive_message"] = look
    assert fired(1) == [{"messages": 1}]
    assert queue.pauses == [], "the wait for messages is the queue's"


def test_full_queue_wakes_somebody_before_it_is_empty(queue: Queue) -> None:
    queue.send(501)
    assert fired(2) == [{"messages": 500}, {"messages": 1}]


@pytest.mark.parametrize("operation", ["receive_message", "delete_message_batch"])
def test_queue_that_fails_is_tried_again(operation: str, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.send(1)
    fail_once(queue, operation, RuntimeError(PLANTED))
    # What was read and not deleted comes again.
    queue.meanwhile = [queue.show_all]
    assert fired(1) == [{"messages": 1}]
    assert queue.pauses == [PAUSE_SECONDS]
    assert "the event queue cannot be read, which is tried again: RuntimeError" in caplog.text
    assert leaks(caplog.text, PLANTED) == []


def test_failure_after_an_event_ends_nothing(queue: Queue) -> None:
    queue.send(1)

    def break_and_send() -> None:
        fail_once(queue, "receive_message", ConnectionError())
        queue.send(1)

    queue.meanwhile = [break_and_send]
    assert fired(2) == [{"messages": 1}, {"messages": 1}]
    assert queue.pauses == [GATHER_SECONDS, PAUSE_SECONDS]


@pytest.mark.parametrize("text", ["no JSON", json.dumps(SETTINGS | {"event_queue_url": ""})])
def test_settings_that_come_later_are_found(text: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.send(1)
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", text)
    queue.meanwhile = [lambda: None, lambda: monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))]
    assert fired(1) == [{"messages": 1}]
    assert queue.pauses == [PAUSE_SECONDS] * 2


async def test_event_loop_goes_on_while_the_queue_is_waited_for(queue: Queue) -> None:
    loop_went_on = threading.Event()
    looking = threading.Event()

    def look() -> None:
        looking.set()
        assert loop_went_on.wait(60)

    queue.send(1)
    queue.before["receive_message"] = look
    async with asyncio.TaskGroup() as group:

        async def loop() -> None:
            while not looking.is_set():
                await asyncio.sleep(0.001)
            loop_went_on.set()

        group.create_task(loop())
        event = await anext(aiter(EventQueueTrigger().run()))
    assert event.payload == {"messages": 1}
