"""The ingest's ledger, permits, dead letters and keys on the emulator: what the fakes only claim to do."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from include.call_details.dead_letters import DeadLetter, DeadLetters, Replay, ReplayResult
from include.call_details.ledger import ChunkLedger, Claims, read_chunks
from include.call_details.models import ChunkState, Claim, Done, FileVersion, LeaseHeld, Settled
from include.call_details.rate_limit import ConcurrencyLimiter
from include.clients.aws import get_parameters
from include.clients.call_details import CallDetailsApi
from include.clients.dynamodb import ItemTable
from include.errors import AwsRefusedError, ClaimLostError
from tests.worlds.call_details import POST_URL, FakeCallDetails
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


@pytest.fixture(scope="module")
def queue_url(aws: Aws) -> Iterator[str]:
    url = aws.sqs.create_queue(QueueName="call-details-dlq-of-this-test")["QueueUrl"]
    yield url
    aws.sqs.delete_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def dead_letters(aws: Aws, queue_url: str) -> DeadLetters:
    aws.s3.create_bucket(Bucket=BUCKET)
    aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return DeadLetters(aws.s3, aws.sqs, BUCKET, queue_url)


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


def test_claim_lives_through_its_whole_life(table: ItemTable, file: FileVersion) -> None:
    claims = Claims(table)
    claim = claims.note_plan(claimed(table, file), "plans/1.json")
    assert file in [each.file for each in claims.unfinished()]
    claims.complete(claim, "receipts/1.json")
    assert file not in [each.file for each in claims.unfinished()]
    assert claims.claim(file, "run-1") == Done("receipts/1.json", "run-0")
    again = claims.claim(file, "run-1", force=True)
    assert again == Claim(file, "run-1", 2, 2)
    claims.complete(again, "receipts/2.json")


def test_chunks_keep_what_was_acknowledged(table: ItemTable, file: FileVersion) -> None:
    claim = claimed(table, file)
    states: list[ChunkState] = []
    for index in range(12):
        chunk = ChunkLedger.open(table, claim, index, first=index * 100, batches=100)
        chunk.acknowledge([Settled(index * 100 + n, 500, accepted=n % 3 > 0, retries=n) for n in range(0, 100, 2)])
        chunk.acknowledge([Settled(index * 100 + 1, 500, accepted=True)], logins=1)
        states.append(chunk.state)
    assert read_chunks(table, claim) == states


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


def test_missing_table_is_a_refusal(dynamodb: DynamoDBClient, file: FileVersion) -> None:
    with pytest.raises(AwsRefusedError, match="ResourceNotFoundException"):
        claimed(ItemTable(dynamodb, "no-such-table"), file)


def test_dead_letters_are_replayed_from_the_version_that_was_kept(
    aws: Aws, dead_letters: DeadLetters, queue_url: str, file: FileVersion
) -> None:
    bodies = [b'{"records":["%d"]}' % number for number in range(12)]
    for number, body in enumerate(bodies):
        letter = DeadLetter(file, number, number + 1, number + 1, f"key-{number}", 3, 500, "500", None)
        pointer = dead_letters.save(letter, body)
        # Another version of the file, whose batch of that number lands at the same key.
        aws.s3.put_object(Bucket=BUCKET, Key=pointer.key, Body=b"other")
    api = FakeCallDetails()

    async def replay(limit: int, *, dry_run: bool = False) -> ReplayResult:
        async with CallDetailsApi(POST_URL, api.login(), http=api.http) as client:
            return await Replay(dead_letters, client, workers=4).run(limit, dry_run=dry_run)

    assert asyncio.run(replay(100, dry_run=True)) == ReplayResult(received=12)
    assert asyncio.run(replay(5)) == ReplayResult(received=5, accepted=5)
    assert asyncio.run(replay(100)) == ReplayResult(received=7, accepted=7)
    assert sorted(request.content for request in api.posted) == sorted(bodies)
    left = aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


def test_keys_come_decrypted(aws: Aws) -> None:
    ssm: Any = aws.session().client("ssm", endpoint_url=aws.endpoint)
    for name, value in (("/copyazure/accesskey", "access"), ("/copyazure/secretkey", '{"odd": "ü"}')):
        ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    assert get_parameters(ssm, "/copyazure/accesskey", "/copyazure/secretkey") == ("access", '{"odd": "ü"}')
    with pytest.raises(AwsRefusedError, match="/copyazure/other"):
        get_parameters(ssm, "/copyazure/accesskey", "/copyazure/other")
