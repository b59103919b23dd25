"""Claims and chunks of the ledger: who owns what, and what an owner that lost it can still do."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from include.clients.items import ItemTable
from include.errors import AwsRefusedError, AwsUnavailableError, ClaimLostError, InvalidInputError, PipelineError
from include.ingest.chunk import MAX_BATCHES_PER_CHUNK, ChunkState, Settled
from include.ingest.claim import Claim, Done, FileVersion, Held
from include.ingest.claims import Claims
from include.ingest.ledger import ChunkLedger, read_chunks
from tests.fakes.call_details import FakeTime
from tests.fakes.ledger_table import TABLE, FakeLedgerTable, table_error

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FILE = FileVersion("ingest", "incoming/a b+c.txt", '"e1"')
LEASE = 100.0


class World:
    """A table, a clock, and claims on them."""

    def __init__(self) -> None:
        self.fake = FakeLedgerTable()
        self.time = FakeTime()
        self.table = ItemTable(cast("DynamoDBClient", self.fake), TABLE)
        self.claims = Claims(self.table, lease_seconds=LEASE, clock=self.time)

    def claim(self, owner: str = "run-1", *, file: FileVersion = FILE, force: bool = False) -> Claim | Held | Done:
        return self.claims.claim(file, owner, records_per_batch=500, force=force)

    def claimed(self, owner: str = "run-1", *, force: bool = False) -> Claim:
        claim = self.claim(owner, force=force)
        assert isinstance(claim, Claim)
        return claim

    def open(self, claim: Claim, index: int = 0, first: int = 0, batches: int = 4) -> ChunkLedger:
        return ChunkLedger.open(self.table, claim, index, first=first, batches=batches)


def accepted(*numbers: int) -> list[Settled]:
    return [Settled(number, 500, accepted=True) for number in numbers]


def test_first_claim_wins_and_the_second_learns_who_has_it() -> None:
    world = World()
    assert world.claim() == Claim(FILE, "run-1", 1, 1, 500)
    assert world.claim("run-2") == Held("run-1", world.time.now + LEASE)


def test_versions_of_one_key_are_claimed_apart() -> None:
    world = World()
    world.claimed()
    other = FileVersion(FILE.bucket, FILE.key, '"e2"')
    assert isinstance(world.claim("run-2", file=other), Claim)


def test_owner_may_claim_again_what_it_has_and_so_renews() -> None:
    world = World()
    first = world.claimed()
    world.time.now += LEASE - 1
    assert world.claimed() == first
    world.time.now += LEASE - 1
    assert isinstance(world.claim("run-2"), Held)


def test_claim_that_ran_out_is_taken_over_with_a_higher_fence() -> None:
    world = World()
    old = world.claimed()
    world.claims.note_plan(old, "plans/1.json")
    world.time.now += LEASE
    new = world.claimed("run-2")
    assert (new.fence, new.round, new.plan) == (old.fence + 1, 1, "plans/1.json")
    attempts: list[Callable[[], object]] = [
        lambda: world.claims.renew(old),
        lambda: world.claims.note_plan(old, "plans/2.json"),
        lambda: world.claims.complete(old, "receipts/1.json"),
        lambda: world.claims.current(FILE, "run-1"),
    ]
    for attempt in attempts:
        with pytest.raises(ClaimLostError):
            attempt()
    assert world.claims.current(FILE, "run-2") == new


def test_claim_that_ran_out_still_holds_if_nobody_took_it() -> None:
    world = World()
    claim = world.claimed()
    world.time.now += 10 * LEASE
    world.claims.renew(claim)
    assert isinstance(world.claim("run-2"), Held)


def test_renewing_keeps_what_another_task_of_the_owner_noted() -> None:
    world = World()
    before = world.claimed()
    world.claims.note_plan(before, "plans/1.json")
    world.claims.renew(before)
    assert world.claims.current(FILE, "run-1").plan == "plans/1.json"


def test_done_is_done_and_knows_its_receipt() -> None:
    world = World()
    claim = world.claimed()
    for _ in range(2):
        world.claims.complete(claim, "receipts/1.json")
    for owner in ("run-1", "run-2"):
        assert world.claim(owner) == Done("receipts/1.json", "run-1")
    with pytest.raises(ClaimLostError):
        world.claims.renew(claim)
    with pytest.raises(ClaimLostError, match="is done"):
        world.claims.complete(claim, "receipts/other.json")


def test_force_begins_another_round_once_with_the_batches_cut_as_before() -> None:
    world = World()
    claim = world.claimed()
    world.open(claim).acknowledge(accepted(0))
    world.claims.note_plan(claim, "plans/1.json")
    world.claims.complete(claim, "receipts/1.json")
    again = world.claims.claim(FILE, "run-2", records_per_batch=100, force=True)
    assert again == Claim(FILE, "run-2", 2, 2, 500)
    assert world.claimed("run-2", force=True) == again, "a retry of the forced run goes on with its round"
    assert read_chunks(world.table, again) == []
    assert world.open(again).state.settled_batches == 0


def test_force_does_not_take_from_a_living_owner() -> None:
    world = World()
    world.claimed()
    assert isinstance(world.claim("run-2", force=True), Held)


def test_unfinished_claims_are_found_until_they_are_done() -> None:
    world = World()
    claim = world.claimed()
    assert world.claims.unfinished() == [(FILE, Held("run-1", world.time.now + LEASE))]
    world.time.now += LEASE
    assert world.claims.unfinished() == [(FILE, None)]
    world.claims.complete(claim, "receipts/1.json")
    assert world.claims.unfinished() == []
    world.claimed("run-2", force=True)
    assert [file for file, _ in world.claims.unfinished()] == [FILE]


def test_owner_that_died_while_completing_leaves_nothing_unfinished() -> None:
    world = World()
    claim = world.claimed()
    world.fake.before["delete_item"] = lambda: (_ for _ in ()).throw(table_error("InternalServerError", 500))
    with pytest.raises(AwsUnavailableError):
        world.claims.complete(claim, "receipts/1.json")
    world.fake.before.clear()
    assert world.claims.unfinished() == []
    assert not any(pk == "unfinished" for pk, _ in world.fake.items)


def test_owner_that_died_while_claiming_is_found_when_it_claims_again() -> None:
    world = World()
    calls = itertools.count()

    def fail_second() -> None:
        if next(calls) == 1:
            raise table_error("InternalServerError", 500)

    world.fake.before["put_item"] = fail_second
    with pytest.raises(AwsUnavailableError):
        world.claim()
    assert world.claims.unfinished() == []
    world.claimed()
    assert len(world.claims.unfinished()) == 1


def test_write_whose_answer_was_lost_and_that_botocore_repeats_is_known_again() -> None:
    world = World()

    def apply_twice() -> None:
        world.fake.after.clear()
        # What botocore does after a time-out: the very same request once more.
        *_, name = (item["written_by"] for item in world.fake.items.values())
        raise table_error("ConditionalCheckFailedException", Item={"written_by": name})

    world.fake.after["put_item"] = apply_twice
    assert world.claim() == Claim(FILE, "run-1", 1, 1, 500)


def test_acknowledged_batches_are_known_to_the_next_attempt() -> None:
    world = World()
    claim = world.claimed()
    chunk = world.open(claim, batches=6)
    chunk.acknowledge([*accepted(0, 1, 3), Settled(4, 500, accepted=False, retries=2)], logins=1)
    chunk.acknowledge([Settled(5, 17, accepted=True, retries=1)], logins=1)
    state = world.open(claim, batches=6).state
    assert [number for number in range(6) if state.is_settled(number)] == [0, 1, 3, 4, 5]
    assert (state.accepted_batches, state.dead, state.finished) == (4, (4,), False)
    assert (state.records_accepted, state.records_dead, state.retries, state.logins) == (1517, 500, 3, 2)


def test_older_attempt_can_acknowledge_nothing_more() -> None:
    world = World()
    claim = world.claimed()
    old, new = world.open(claim), world.open(claim)
    with pytest.raises(ClaimLostError):
        old.acknowledge(accepted(0))
    new.acknowledge(accepted(1))
    assert read_chunks(world.table, claim) == [new.state]
    assert not new.state.is_settled(0)


def test_older_owner_cannot_open_what_a_later_one_has_opened() -> None:
    world = World()
    old = world.claimed()
    opened = world.open(old)
    world.time.now += LEASE
    new = world.claimed("run-2")
    world.open(new)
    with pytest.raises(ClaimLostError):
        opened.acknowledge(accepted(0))
    with pytest.raises(ClaimLostError):
        world.open(old)


def test_chunk_of_another_plan_is_refused() -> None:
    world = World()
    claim = world.claimed()
    world.open(claim, batches=4)
    with pytest.raises(InvalidInputError, match="plan was made anew"):
        world.open(claim, batches=5)


def test_chunks_come_in_order_whatever_their_number() -> None:
    world = World()
    claim = world.claimed()
    for index in (11, 2, 0):
        world.open(claim, index, first=index * 4)
    assert [state.index for state in read_chunks(world.table, claim)] == [0, 2, 11]


@pytest.mark.parametrize("batches", [0, MAX_BATCHES_PER_CHUNK + 1])
def test_chunk_that_no_item_can_hold_is_refused(batches: int) -> None:
    with pytest.raises(InvalidInputError):
        ChunkState.fresh(0, 0, batches)


def test_worst_chunk_fits_into_an_item() -> None:
    world = World()
    first = 100_000_000
    chunk = world.open(world.claimed(), first=first, batches=MAX_BATCHES_PER_CHUNK)
    chunk.acknowledge([Settled(first + n, 500, accepted=False) for n in range(MAX_BATCHES_PER_CHUNK)])
    (item,) = (item for (_, sk), item in world.fake.items.items() if "chunk" in sk)
    # DynamoDB counts a number as a byte for two digits and one more, and a byte for each element of a list.
    dead = sum((len(value["N"]) + 1) // 2 + 2 for value in item["dead"]["L"])
    rest = len(json.dumps({name: value for name, value in item.items() if name != "dead"}))
    assert dead + rest < 400_000


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ProvisionedThroughputExceededException", 400, AwsUnavailableError),
        ("ThrottlingException", 400, AwsUnavailableError),
        ("InternalServerError", 500, AwsUnavailableError),
        ("ResourceNotFoundException", 400, AwsRefusedError),
        ("AccessDeniedException", 400, AwsRefusedError),
    ],
)
@pytest.mark.parametrize("operation", ["get_item", "put_item"])
def test_failures_are_typed(operation: str, code: str, status: int, error: type[PipelineError]) -> None:
    world = World()
    world.fake.before[operation] = lambda: (_ for _ in ()).throw(table_error(code, status))
    with pytest.raises(error, match=code):
        world.claim()
