"""The ingest's ledger, permits, dead letters and keys on the emulator: what the fakes only claim to do."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from include.call_details.ledger import ChunkLedger, Claims, read_chunks
from include.call_details.models import Claim, FileVersion, LeaseHeld, Settled
from include.call_details.rate_limit import ConcurrencyLimiter
from include.clients.dynamodb import ItemTable
from include.errors import ClaimLostError
from tests.worlds.events import AT_ONCE, at_once

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from tests.integration.conftest import Aws

TABLE = "ingest-ledger-of-this-test"
BUCKET = "ingest-of-this-test"
NAMES = itertools.count()


@pytest.fixture(scope="module")
def dynamodb(aws: Aws) -> DynamoDBClient:
    client = aws.dynamodb
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> ItemTable:
    return ItemTable(dynamodb, TABLE)


@pytest.fixture
def file() -> FileVersion:
    return FileVersion(BUCKET, f"incoming/ä b+{next(NAMES)}.txt", '"e-1"')


def claimed(table: ItemTable, file: FileVersion, owner: str = "run-0") -> Claim:
    claim = Claims(table).claim(file, owner)
    assert isinstance(claim, Claim)
    return claim


def test_of_several_claimers_at_once_exactly_one_wins(table: ItemTable, file: FileVersion) -> None:
    answers = at_once(lambda index: Claims(table).claim(file, f"run-{index}"))
    (winner,) = [answer for answer in answers if isinstance(answer, Claim)]
    held = [answer for answer in answers if isinstance(answer, LeaseHeld)]
    assert {answer.owner for answer in held} == {winner.owner}
    assert len(held) == AT_ONCE - 1


def test_of_several_that_take_over_at_once_exactly_one_wins(table: ItemTable, file: FileVersion) -> None:
    dead = Claims(table, lease_seconds=-1).claim(file, "dead")
    assert isinstance(dead, Claim)
    answers = at_once(lambda index: Claims(table).claim(file, f"run-{index}"))
    (winner,) = [answer for answer in answers if isinstance(answer, Claim)]
    assert winner.fence == dead.fence + 1
    with pytest.raises(ClaimLostError):
        Claims(table).renew(dead)


def test_tasks_of_one_owner_that_renew_at_once_all_succeed(table: ItemTable, file: FileVersion) -> None:
    claim = claimed(table, file)
    at_once(lambda _: Claims(table).renew(claim))
    assert Claims(table).current(file, "run-0") == claim


def test_of_several_attempts_that_write_at_once_only_the_last_opener_succeeds(
    table: ItemTable, file: FileVersion
) -> None:
    claim = claimed(table, file)

    def attempt(index: int) -> list[int]:
        acknowledged = []
        chunk = ChunkLedger.open(table, claim, 0, first=0, batches=1000)
        try:
            for number in range(index, 1000, AT_ONCE):
                chunk.acknowledge([Settled(number, 1, accepted=True)])
                acknowledged.append(number)
                if len(acknowledged) == 20:
                    break
        except ClaimLostError:
            pass
        return acknowledged

    written = list(itertools.chain(*at_once(attempt)))
    (state,) = read_chunks(table, claim)
    assert [number for number in range(1000) if state.is_settled(number)] == sorted(written)
    assert state.records_accepted == len(written) >= 20


def test_permits_never_exceed_the_limit_over_many_takers(table: ItemTable) -> None:
    name = f"api-{next(NAMES)}"
    lock = threading.Lock()
    held: dict[int, int] = {}

    def taker(index: int) -> None:
        permits = ConcurrencyLimiter(table, name, 10)
        for turn in range(6):
            count = permits.refresh(f"task-{index}", 1 + (index + turn) % 5).count
            with lock:
                held[index] = count
                assert sum(held.values()) <= 10
                # Noted before they are given back: afterwards they may be somebody else's at once.
                held[index] = 0
            permits.refresh(f"task-{index}", 0)

    at_once(taker, 12)
    assert table.get("permits", name).content == {"holders": {}}
