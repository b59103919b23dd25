import asyncio
import itertools
import json
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from include.archive import run as run_module
from include.archive.keys import archive_key
from include.archive.models import Client, ClientOutcome, Result
from include.archive.run import Archiver, Backoff
from include.archive.store import ArchiveStore
from include.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    AuthRefusedError,
    StorageRefusedError,
    StorageUnavailableError,
)
from include.mapped_work import OutcomeFile
from tests.worlds.archive import Clock
from tests.worlds.s3 import FakeS3, raising, s3_error

DAY = date(2026, 3, 8)
LEDGER = "runs/trigger/20260308/run/outcomes/000000.json"
SECRET = "pl4nted"


class Source:
    """Answers ``{"client": id}``, or as ``scripted``; remembers who was asked."""

    def __init__(self, scripted: dict[int, Exception | bytes] | None = None) -> None:
        self.scripted = scripted or {}
        self.asked: list[int] = []
        self.asked_at: dict[int, float] = {}
        self.active = 0
        self.most_active = 0
        self.gate: Callable[[int], Any] | None = None

    async def trigger_response(self, client_id: int, day: date) -> bytes:
        assert day == DAY
        self.asked.append(client_id)
        self.asked_at[client_id] = time.monotonic()
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            # One turn of the loop: whoever could start beside this call has started.
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate(client_id)
        finally:
            self.active -= 1
        reply = self.scripted.get(client_id, json.dumps({"client": client_id}).encode())
        if isinstance(reply, Exception):
            raise reply
        return reply


def archiver(s3: FakeS3, source: Source, *, concurrency: int = 4, clear_number: int = 0, **options: float) -> Archiver:
    client = s3
    return Archiver(
        source=source,
        store=ArchiveStore(s3, s3.bucket),
        ledger=OutcomeFile(ClientOutcome, client, s3.bucket, LEDGER, clear_number=clear_number),
        day=DAY,
        force=False,
        concurrency=concurrency,
        **options,
    )


def archive(s3: FakeS3, source: Source, count: int = 10, **options: Any) -> list[ClientOutcome]:
    return asyncio.run(archiver(s3, source, **options).archive(clients(count)))


def clients(count: int) -> list[Client]:
    return [Client(number, f"Client {number}") for number in range(1, count + 1)]


def ledger(s3: FakeS3) -> dict[int, ClientOutcome]:
    return OutcomeFile(ClientOutcome, s3, s3.bucket, LEDGER, clear_number=0).resume()


def failing_put(prefix: str, error: Exception, *, times: int = 10**6) -> Callable[[dict[str, Any]], None]:
    left = times

    def hook(request: dict[str, Any]) -> None:
        nonlocal left
        if request["Key"].startswith(prefix) and left:
            left -= 1
            raise error

    return hook


def test_every_client_is_archived_and_in_the_ledger() -> None:
    s3 = FakeS3()
    outcomes = archive(s3, Source())
    assert [(outcome.client_id, outcome.outcome) for outcome in outcomes] == [
        (number, Result.ARCHIVED) for number in range(1, 11)
    ]
    assert s3.bodies(archive_key(3, DAY)) == [b'{"client": 3}']
    assert ledger(s3) == {outcome.client_id: outcome for outcome in outcomes}


def test_no_clients_is_no_error() -> None:
    assert archive(FakeS3(), Source(), count=0) == []


def test_one_failure_stops_no_other() -> None:
    s3 = FakeS3()
    source = Source(
        {
            2: ApiRefusedError("DEX API answered 404"),
            3: ApiUnavailableError("DEX API answered 429", retry_after=0.01),
            4: b"null",
            5: b"<html>",
            6: AuthRefusedError("refused"),
        }
    )
    outcomes = {outcome.client_id: outcome for outcome in archive(s3, source)}
    failed = {number for number, outcome in outcomes.items() if outcome.outcome is Result.FAILED}
    assert failed == {2, 3, 4, 5, 6}
    assert {number for number in failed if outcomes[number].retryable} == {3}
    assert outcomes[3].retry_after == 0.01
    assert outcomes[2].error == "DEX API answered 404"
    assert s3.keys("trigger/") == sorted(archive_key(number, DAY) for number in (1, 7, 8, 9, 10))


def test_storage_that_fails_for_one_client_fails_that_client() -> None:
    s3 = FakeS3()
    s3.before["PutObject"] = failing_put("trigger/3/", s3_error("SlowDown"))
    outcomes = {outcome.client_id: outcome for outcome in archive(s3, Source())}
    assert [number for number, outcome in outcomes.items() if outcome.outcome is Result.FAILED] == [3]
    assert outcomes[3].retryable


def test_retry_does_only_what_is_not_settled() -> None:
    s3 = FakeS3()
    archive(s3, Source({2: ApiUnavailableError("busy"), 5: ApiRefusedError("no such client")}))
    retry = Source()
    outcomes = {outcome.client_id: outcome for outcome in archive(s3, retry)}
    assert retry.asked == [2]
    assert outcomes[2].outcome is Result.ARCHIVED
    assert outcomes[5].outcome is Result.FAILED
    assert ledger(s3) == outcomes
    assert len(s3.bodies(archive_key(1, DAY))) == 1


def test_cleared_task_asks_again_and_writes_nothing_twice() -> None:
    s3 = FakeS3()
    archive(s3, Source())
    again = Source()
    outcomes = archive(s3, again, clear_number=1)
    assert sorted(again.asked) == list(range(1, 11))
    assert {outcome.outcome for outcome in outcomes} == {Result.UNCHANGED}
    assert len(s3.bodies(archive_key(1, DAY))) == 1


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_no_more_calls_at_once_than_allowed(concurrency: int) -> None:
    source = Source()
    archive(FakeS3(), source, count=40, concurrency=concurrency)
    assert source.most_active == concurrency


async def test_slow_client_holds_up_nobody_else() -> None:
    source, everyone_else = Source(), asyncio.Event()

    async def gate(client_id: int) -> None:
        if client_id == 1:
            await asyncio.wait_for(everyone_else.wait(), timeout=60)
        elif len(source.asked) == 20:
            everyone_else.set()

    source.gate = gate
    outcomes = await archiver(FakeS3(), source, concurrency=2).archive(clients(20))
    assert {outcome.outcome for outcome in outcomes} == {Result.ARCHIVED}


async def _stuck_after(source: Source, done: int) -> asyncio.Event:
    """Let ``done`` clients through; the next one waits for ever. The event tells that it has begun."""
    begun = asyncio.Event()

    async def gate(client_id: int) -> None:
        if client_id > done:
            begun.set()
            await asyncio.Event().wait()

    source.gate = gate
    return begun


def test_task_that_is_cancelled_leaves_its_outcomes_for_the_retry() -> None:
    s3, source = FakeS3(), Source()

    async def run() -> None:
        begun = await _stuck_after(source, 4)
        task = asyncio.create_task(archiver(s3, source, concurrency=1).archive(clients(10)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert sorted(ledger(s3)) == [1, 2, 3, 4]
    retry = Source()
    archive(s3, retry)
    assert retry.asked == [5, 6, 7, 8, 9, 10]


async def test_task_that_is_killed_has_saved_on_its_way() -> None:
    s3, source = FakeS3(), Source()
    begun = await _stuck_after(source, 4)
    task = asyncio.create_task(archiver(s3, source, concurrency=1, save_every=0.0).archive(clients(10)))
    await begun.wait()
    # What a process that is killed now leaves behind.
    left = ledger(s3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(left) == [1, 2, 3, 4]


def test_ledger_is_not_written_for_every_client() -> None:
    s3 = FakeS3()
    archive(s3, Source(), count=100, save_every=3600)
    assert len(s3.bodies(LEDGER)) == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_mistake_in_the_code_fails_its_client_only_and_is_in_the_log(
    concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    s3 = FakeS3()
    source = Source({7: ZeroDivisionError(f"a mistake with {SECRET}")})
    outcomes = {outcome.client_id: outcome for outcome in archive(s3, source, concurrency=concurrency)}
    assert [number for number, outcome in outcomes.items() if outcome.outcome is Result.FAILED] == [7]
    assert outcomes[7].error == "unexpected ZeroDivisionError, see the log"
    assert outcomes[7].retryable, "the next version of the code may do better"
    assert ledger(s3) == outcomes
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "client 7" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


def test_mistake_while_an_answer_is_kept_fails_its_client_only() -> None:
    s3 = FakeS3()
    s3.before["PutObject"] = failing_put("trigger/3/", KeyError("ETag"))
    outcomes = {outcome.client_id: outcome for outcome in archive(s3, Source())}
    assert {number for number, outcome in outcomes.items() if outcome.outcome is Result.FAILED} == {3}
    assert outcomes[3].error == "unexpected KeyError, see the log"


def refused(seconds: float) -> ClientOutcome:
    return ClientOutcome(1, Result.FAILED, retryable=True, retry_after=seconds)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_nobody_is_asked_before_the_pause_that_the_api_asked_for_is_over(concurrency: int) -> None:
    pause = 0.15
    busy = {number: ApiUnavailableError("DEX API answered 429", retry_after=pause) for number in range(1, 4)}
    source = Source(busy)
    outcomes = archive(FakeS3(), source, count=8, concurrency=concurrency)
    # Those that were on their way together are all refused; the rest waits for the last refusal's pause.
    together = [source.asked_at[number] for number in range(1, concurrency + 1)]
    assert source.asked_at[concurrency + 1] - max(together) >= pause
    assert [outcome.retry_after for outcome in outcomes[:3]] == [pause] * 3
    assert {outcome.outcome for outcome in outcomes[3:]} == {Result.ARCHIVED}


def test_shorter_wait_does_not_end_a_longer_one() -> None:
    long, short = 0.2, 0.01
    source = Source(
        {
            1: ApiUnavailableError("DEX API answered 503", retry_after=long),
            2: ApiUnavailableError("DEX API answered 429", retry_after=short),
        }
    )
    archive(FakeS3(), source, count=4, concurrency=2)
    assert min(source.asked_at[3], source.asked_at[4]) - source.asked_at[1] >= long


async def test_pause_grows_while_somebody_waits_for_its_end() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        if clock.now < 1010.0:
            # What another call is answered meanwhile.
            clock.now = 1009.0
            backoff.note(refused(30.0), 1000.0)
        clock.now += seconds

    backoff = Backoff(60.0, clock=clock, sleep=sleep)
    backoff.note(refused(10.0), 1000.0)
    assert (await backoff.wait() or 0.0) >= 1039.0


def test_first_that_is_refused_after_a_pause_keeps_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = itertools.cycle([0.0, 0.5, 1.0])
    monkeypatch.setattr("random.uniform", lambda least, most: least + next(shares) * (most - least))
    now, sleeping = 1000.0, list[tuple[float, asyncio.Event]]()

    async def sleep(seconds: float) -> None:
        sleeping.append((now + seconds, woken := asyncio.Event()))
        await woken.wait()

    async def wake() -> None:
        """Let the time of whoever sleeps shortest come."""
        nonlocal now
        now, woken = sleeping.pop(min(range(len(sleeping)), key=lambda index: sleeping[index][0]))
        woken.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def wait() -> None:
        backoff = Backoff(60.0, clock=lambda: now, sleep=sleep)
        backoff.note(refused(10.0), now)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(backoff.wait()) for _ in range(3)]
            await asyncio.sleep(0)
            assert sorted(at for at, _ in sleeping) == [1010.0, 1012.5, 1015.0]
            await wake()
            assert [each.done() for each in waiting] == [True, False, False]
            backoff.note(refused(10.0), now)
            await wake()
            await wake()
            assert [each.done() for each in waiting] == [True, False, False]
            assert min(at for at, _ in sleeping) >= 1020.0
            await wake()
            await wake()

    asyncio.run(wait())


async def test_answers_to_calls_of_before_a_pause_are_no_further_pauses() -> None:
    clock = Clock()
    backoff = Backoff(60.0, clock=clock)
    began = [await backoff.wait() for _ in range(10)]
    for each in began:
        assert each is not None
        backoff.note(refused(1.0), each)
        # Longer than it asked to wait.
        clock.now += 2.0
    assert await backoff.wait() == clock.now


@pytest.mark.parametrize("asked", [3600.0, float("inf")])
def test_pause_has_a_limit_and_the_outcome_keeps_what_was_asked(asked: float) -> None:
    source = Source({1: ApiUnavailableError("DEX API answered 503", retry_after=asked)})
    outcomes = archive(FakeS3(), source, count=2, concurrency=1, max_pause=0.05)
    assert source.asked_at[2] - source.asked_at[1] >= 0.05
    assert [outcome.retry_after for outcome in outcomes] == [asked, None]


def test_task_that_is_asked_to_wait_again_and_again_leaves_the_rest_to_its_retry() -> None:
    busy = {number: ApiUnavailableError("DEX API answered 429", retry_after=0.02) for number in range(1, 21)}
    source = Source(busy)
    outcomes = archive(FakeS3(), source, count=20, concurrency=1)
    assert sorted(source.asked_at) == list(range(1, run_module.MAX_PAUSES + 2))
    assert all(outcome.retryable for outcome in outcomes)
    assert {outcome.error for outcome in outcomes[run_module.MAX_PAUSES + 1 :]} == {run_module.NOT_ASKED}


def test_success_between_pauses_keeps_a_task_asking() -> None:
    busy = {number: ApiUnavailableError("DEX API answered 429", retry_after=0.01) for number in range(1, 21, 2)}
    outcomes = archive(FakeS3(), Source(busy), count=20, concurrency=1)
    assert [outcome.outcome for outcome in outcomes] == [Result.FAILED, Result.ARCHIVED] * 10


@pytest.mark.parametrize("retryable", [True, False])
async def test_failure_without_a_wait_holds_up_nobody(retryable: bool) -> None:
    backoff = Backoff(60.0, clock=Clock(), sleep=raising(AssertionError("it waits")))
    backoff.note(ClientOutcome(1, Result.FAILED, retryable=retryable), 1000.0)
    assert await backoff.wait() == 1000.0


@pytest.mark.parametrize(
    ("code", "expected"), [("SlowDown", StorageUnavailableError), ("AccessDenied", StorageRefusedError)]
)
def test_ledger_that_cannot_be_written_is_an_error_of_its_own_type(code: str, expected: type[Exception]) -> None:
    s3 = FakeS3()
    # Only the first save fails: the last one, on the way out, must not be what names the error.
    s3.before["PutObject"] = failing_put("runs/", s3_error(code), times=1)
    with pytest.raises(expected, match="outcomes"):
        archive(s3, Source(), save_every=0.0)


def test_ledger_that_cannot_be_read_starts_nothing() -> None:
    s3, source = FakeS3(), Source()
    s3.before["GetObject"] = raising(s3_error("AccessDenied", "GetObject"))
    with pytest.raises(StorageRefusedError):
        archive(s3, source)
    assert source.asked == []


def test_body_and_name_are_not_in_the_ledger() -> None:
    s3 = FakeS3()
    archive(s3, Source({1: json.dumps([SECRET]).encode(), 2: f"<html>{SECRET}".encode()}), count=2)
    assert SECRET.encode() not in (s3.bodies(LEDGER)[-1] or b"")
