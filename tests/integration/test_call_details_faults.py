"""Chunks posted to the stub over real sockets: whatever goes wrong, each batch is accepted or a dead letter."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import ChunkLedger
from include.call_details.models import ChunkState, Claim, FileVersion
from include.call_details.poster import Poster
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.records import Batch
from include.clients.call_details import CallDetailsApi
from include.clients.dynamodb import ItemTable
from include.clients.tokens import Keys, TokenCache, key_login
from include.errors import Backoff
from tests.integration.test_partner_stubs import Stubs, serving
from tests.worlds.dynamodb import TABLE, FakeLedgerTable
from tests.worlds.s3 import FakeS3
from tests.worlds.sqs import QUEUE_URL, FakeSqs

BATCHES = "/call-details/batches"
RECEIVED = "/journal/call-details"
KEYS = Keys("local-access", "local-secret")
FILE = FileVersion("ingest", "incoming/f.txt", '"e"')
NUMBER = 40
PERMITS = 8


def records(number: int) -> bytes:
    return b'{"n":%d.50},"x"' % number


def batch(number: int) -> Batch:
    """A batch that the stub takes."""
    body = b'{"records":[%b],"timestamp":"2026-03-08T12:00:00.000Z","batchSize":2}' % records(number)
    return Batch(number, 2 * number + 1, 2, f"key-{number}", body)


SHORT = Backoff(first=0.02, jitter=0)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALL_DETAILS_ACCESS_KEY", KEYS.access_key)
        patch.setenv("CALL_DETAILS_SECRET_KEY", KEYS.secret_key)
        with serving(tmp_path_factory.mktemp("stubs") / "stubs.log", "auto") as running:
            yield running


class World:
    """The pipeline's side."""

    def __init__(self, stubs: Stubs) -> None:
        self.stubs = stubs
        self.sqs = FakeSqs()
        self.items = ItemTable(FakeLedgerTable(), TABLE)
        self.dead_letters = DeadLetters(FakeS3("ingest"), self.sqs, "ingest", QUEUE_URL)

    async def chunk(self, index: int = 0) -> ChunkState:
        """Post one chunk, as a task of its own does."""
        url = str(self.stubs.client.base_url)
        login = TokenCache(key_login(f"{url}/call-details/login", KEYS), attempts=3)
        claim = Claim(FILE, "run", 1, 1)
        first = index * NUMBER
        ledger = ChunkLedger.open(self.items, claim, index, first=first, batches=NUMBER)
        async with (
            ConcurrencyLimiter(self.items, "call-details", PERMITS).hold(PERMITS) as held,
            CallDetailsApi(f"{url}{BATCHES}", login, gate=held.permit, seconds=1.0, backoff=SHORT) as api,
        ):
            await Poster(api, self.dead_letters, workers=PERMITS).post(
                (ledger, batch(number)) for number in range(first, first + NUMBER)
            )
            return ledger.state


def post(stubs: Stubs, *rules: dict[str, Any], **general: Any) -> tuple[ChunkState, dict[str, Any]]:
    """Post a chunk under these rules; returns its state and what the stub took, by key."""
    stubs.client.delete(RECEIVED)
    stubs.rules(*rules, **general)
    state = asyncio.run(World(stubs).chunk())
    return state, stubs.client.get(RECEIVED, params={"batches": "true"}).json()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "applied": True},
        {"cut": "before", "applied": True},
        {"cut": "mid", "applied": True},
        {"latency_ms": 1500, "status": 500},
        {"status": 503, "body": "<html>", "drip_ms": 400},
    ],
    ids=str,
)
def test_fault_that_passes_loses_and_doubles_nothing(stubs: Stubs, fault: dict[str, Any]) -> None:
    state, taken = post(stubs, {"path": BATCHES, "share": 0.15, **fault})
    assert (state.finished, state.dead, state.records_accepted) == (True, (), 2 * NUMBER)
    assert state.retries > 0
    assert (taken["batches"], taken["records"], taken["conflicting"]) == (NUMBER, 2 * NUMBER, 0)
    digests = {f"key-{number}": hashlib.sha256(records(number)).hexdigest() for number in range(NUMBER)}
    assert {key: found["sha256"] for key, found in taken["by_key"].items()} == digests
    assert taken["times"] - NUMBER <= state.retries, "repeats are retries, under the same key"


async def test_several_tasks_together_never_have_more_calls_under_way_than_permits(stubs: Stubs) -> None:
    stubs.client.delete(RECEIVED)
    # The first of them wait for each other, so that there are once as many as there may be.
    stubs.rules({"path": BATCHES, "latency_ms": 500, "count": PERMITS}, latency_ms=30)
    world = World(stubs)
    assert all(state.finished for state in (await asyncio.gather(*(world.chunk(index) for index in range(5)))))
    journal = stubs.client.get("/journal", params={"limit": 0}).json()
    assert journal["max_concurrent"][BATCHES] == PERMITS
    assert stubs.client.get(RECEIVED).json()["times"] == 5 * NUMBER


def test_stub_that_is_gone_ends_in_dead_letters_or_a_failed_login_not_in_silence(stubs: Stubs) -> None:
    world = World(stubs)

    async def lost() -> ChunkState:
        login = TokenCache(key_login(f"{stubs.client.base_url}/call-details/login", KEYS), attempts=3)
        ledger = ChunkLedger.open(world.items, Claim(FILE, "run", 1, 1), 0, first=0, batches=3)
        async with CallDetailsApi("http://127.0.0.1:1/", login, backoff=SHORT) as api:
            await Poster(api, world.dead_letters, workers=2).post((ledger, batch(number)) for number in range(3))
            return ledger.state

    stubs.rules()
    state = asyncio.run(lost())
    assert (state.finished, sorted(state.dead), len(world.sqs.bodies)) == (True, [0, 1, 2], 3)
