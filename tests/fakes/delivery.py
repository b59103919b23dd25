"""All that surrounds the delivery of events: tables, queue, receivers, and a time that passes when somebody waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from include.clients.http import Failure
from include.clients.webhooks import Endpoint, WebhookResponse
from include.delivery.dead_letters import DeadLetters
from include.delivery.dispatcher import Courier
from include.delivery.event_table import EventTable
from include.delivery.report import Tally
from include.delivery.subscriptions import Subscriptions
from tests.fakes.call_details import FakeTime
from tests.fakes.event_table import EVENTS, SUBSCRIPTIONS, FakeEventTables, event_item
from tests.fakes.sqs import QUEUE_URL, FakeSqs

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

ACCEPTED = WebhookResponse(200)
START = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def refused(status: int | None = 503, *, retry_after: float | None = None) -> WebhookResponse:
    """A refusal with a status, or none."""
    return WebhookResponse(status, Failure(status, f"{status} refused", retryable=True, retry_after=retry_after))


class Inline(Executor):
    """Runs what it is given at once: tests see one order of steps."""

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result raises it
            done.set_exception(error)
        return done


class KilledError(Exception):
    """The worker is gone: it does nothing any more."""


@dataclass
class Life:
    """How long a worker lives: so many steps outside itself, each a call of AWS or a post.

    Args:
        steps: after the last one it is killed; None = it is not.
        in_effect: the last step still takes place.
        on_step: called before each step, with its number from 1.
    """

    steps: int | None = None
    in_effect: bool = True
    on_step: Callable[[int], None] = lambda number: None
    taken: int = 0

    def take[T](self, step: Callable[[], T]) -> T:
        """Take a step, or die."""
        self.taken += 1
        left = None if self.steps is None else self.steps - self.taken
        if left is not None and (left < 0 or (left == 0 and not self.in_effect)):
            raise KilledError
        self.on_step(self.taken)
        result = step()
        if left == 0:
            raise KilledError
        return result


class _Mortal:
    """A client of AWS in the hands of a worker that may be killed."""

    def __init__(self, client: object, life: Life) -> None:
        self._client = client
        self._life = life

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda **request: self._life.take(lambda: call(**request))


@dataclass(frozen=True)
class Arrival:
    """A post as it arrived."""

    url: str
    event_id: str
    at: float


@dataclass
class DeliveryWorld:
    """Set it up by changing its parts, deliver, look at them afterwards.

    ``answer`` says what a receiver answers to a post; it may take its (fake) time.
    """

    tables: FakeEventTables = field(default_factory=FakeEventTables)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    time: FakeTime = field(default_factory=lambda: FakeTime(START))
    arrivals: list[Arrival] = field(default_factory=list)
    answer: Callable[[Arrival], WebhookResponse] = lambda arrival: ACCEPTED
    latency: Callable[[Arrival], float] = lambda arrival: 0.0
    max_attempts: int = 11
    concurrency: int = 8
    seconds: float = 300.0
    open: int = 0
    most_open: int = 0
    under_way: int = 0
    most_under_way: int = 0

    def add(self, count: int, owner: str = "acme", *, first: int = 1, **changes: Any) -> None:
        """Store so many events of an owner, created a millisecond apart some time ago, and its subscription."""
        numbers = range(first, first + count)
        self.tables.add(*(event_item(n, owner, created=START - 60 + n / 1000, **changes) for n in numbers))
        self.tables.subscribe(owner, f"https://{owner}.test/hook")

    @property
    def events(self) -> EventTable:
        """The table of events."""
        return EventTable(cast("DynamoDBClient", self.tables), EVENTS, sleep=self.pass_time)

    @property
    def subscriptions(self) -> Subscriptions:
        """The table of subscriptions."""
        return Subscriptions(cast("DynamoDBClient", self.tables), SUBSCRIPTIONS, sleep=self.pass_time)

    def courier(self, life: Life | None = None, *, clock_ahead: float = 0.0) -> Courier:
        """A worker, whose clock may be ahead of the others'."""
        life = life or Life()
        tables = cast("DynamoDBClient", _Mortal(self.tables, life))
        return Courier(
            events=EventTable(tables, EVENTS, sleep=self.pass_time),
            subscriptions=Subscriptions(tables, SUBSCRIPTIONS, sleep=self.pass_time),
            dead_letters=DeadLetters(cast("SQSClient", _Mortal(self.sqs, life)), QUEUE_URL),
            open_endpoint=lambda url: cast("Endpoint", _FakeEndpoint(self, url, life)),
            concurrency=self.concurrency,
            max_attempts=self.max_attempts,
            seconds=self.seconds,
            clock=lambda: self.time() + clock_ahead,
            sleep=self.time.sleep,
            open_threads=lambda number: Inline(),
        )

    def deliver(self, *owners: str) -> Tally:
        """What one worker does."""
        return asyncio.run(self.courier().deliver(owners or ("acme",)))

    def deliver_at_once(self, *couriers: Courier, owners: Sequence[str] = ("acme",)) -> list[Tally | BaseException]:
        """What several workers do with the same share, all beginning at the same time; how those ended that did not."""

        async def all_of_them() -> list[Tally | BaseException]:
            deliveries = (courier.deliver(owners) for courier in couriers)
            return await asyncio.gather(*deliveries, return_exceptions=True)

        return asyncio.run(all_of_them())

    def arrived(self, owner: str = "acme") -> list[int]:
        """Numbers of the events that arrived at an owner's webhook, in that order."""
        return [int(each.event_id[4:]) for each in self.arrivals if each.url == f"https://{owner}.test/hook"]

    def dead(self) -> list[dict[str, Any]]:
        """What the dead-letter queue holds."""
        return [json.loads(body) for body in self.sqs.bodies]

    def pass_time(self, seconds: float) -> None:
        """Let the time pass."""
        self.time.now += seconds


class _FakeEndpoint:
    def __init__(self, world: DeliveryWorld, url: str, life: Life) -> None:
        self._world = world
        self._url = url
        self._life = life
        self._connected = False

    async def post(self, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        assert json.loads(body)["id"] == headers["Webhook-Id"]
        world = self._world
        world.open += not self._connected
        self._connected = True
        arrival = self._life.take(lambda: self._arrive(headers["Webhook-Id"]))
        world.under_way += 1
        world.most_open = max(world.open, world.most_open)
        world.most_under_way = max(world.under_way, world.most_under_way)
        try:
            await world.time.sleep(world.latency(arrival))
            return world.answer(arrival)
        finally:
            world.under_way -= 1

    def _arrive(self, event_id: str) -> Arrival:
        arrival = Arrival(self._url, event_id, self._world.time())
        self._world.arrivals.append(arrival)
        return arrival

    async def close(self) -> None:
        self._world.open -= self._connected
        self._connected = False
