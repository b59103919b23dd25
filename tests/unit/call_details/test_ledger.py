"""Chunks of the ledger: what is settled, and which attempt may say so."""

import json

import pytest

from include.call_details.ledger import read_chunks
from include.call_details.models import MAX_BATCHES_PER_CHUNK, ChunkState, Settled
from include.errors import AwsRefusedError, AwsUnavailableError, ClaimLostError, InvalidInputError, PipelineError
from tests.worlds.call_details_run import LEASE, LedgerWorld, accepted
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import raising


def test_acknowledged_batches_are_known_to_the_next_attempt() -> None:
    world = LedgerWorld()
    claim = world.claimed()
    chunk = world.open(claim, batches=6)
    chunk.acknowledge([*accepted(0, 1, 3), Settled(4, 500, accepted=False, retries=2)], logins=1)
    chunk.acknowledge([Settled(5, 17, accepted=True, retries=1)], logins=1)
    state = world.open(claim, batches=6).state
    assert [number for number in range(6) if state.is_settled(number)] == [0, 1, 3, 4, 5]
    assert (state.accepted_batches, state.dead, state.finished) == (4, (4,), False)
    assert (state.records_accepted, state.records_dead, state.retries, state.logins) == (1517, 500, 3, 2)


def test_older_attempt_can_acknowledge_nothing_more() -> None:
    world = LedgerWorld()
    claim = world.claimed()
    old, new = world.open(claim), world.open(claim)
    with pytest.raises(ClaimLostError):
        old.acknowledge(accepted(0))
    new.acknowledge(accepted(1))
    assert read_chunks(world.items, claim) == [new.state]
    assert not new.state.is_settled(0)


def test_older_owner_cannot_open_what_a_later_one_has_opened() -> None:
    world = LedgerWorld()
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
    world = LedgerWorld()
    claim = world.claimed()
    world.open(claim, batches=4)
    with pytest.raises(InvalidInputError, match="plan was replaced"):
        world.open(claim, batches=5)


def test_chunks_come_in_order_whatever_their_number() -> None:
    world = LedgerWorld()
    claim = world.claimed()
    for index in (11, 2, 0):
        world.open(claim, index, first=index * 4)
    assert [state.index for state in read_chunks(world.items, claim)] == [0, 2, 11]


@pytest.mark.parametrize("batches", [0, MAX_BATCHES_PER_CHUNK + 1])
def test_chunk_that_no_item_can_hold_is_refused(batches: int) -> None:
    with pytest.raises(InvalidInputError):
        ChunkState.fresh(0, 0, batches)


def test_worst_chunk_fits_into_an_item() -> None:
    world = LedgerWorld()
    first = 100_000_000
    chunk = world.open(world.claimed(), first=first, batches=MAX_BATCHES_PER_CHUNK)
    chunk.acknowledge([Settled(first + n, 500, accepted=False) for n in range(MAX_BATCHES_PER_CHUNK)])
    (item,) = (item for (_, sk), item in world.table.items.items() if "chunk" in sk)
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
def test_error_of_the_table_is_transient_or_permanent_by_its_code(
    operation: str, code: str, status: int, error: type[PipelineError]
) -> None:
    world = LedgerWorld()
    world.table.before[operation] = raising(table_error(code, status))
    with pytest.raises(error, match=code):
        world.claim()
