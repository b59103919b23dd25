"""Claims: who owns a file version, and what an owner that lost it can still do."""

import itertools
from collections.abc import Callable

import pytest

from include.call_details.ledger import MAX_PAUSE_SECONDS, read_chunks
from include.call_details.models import Claim, Done, FileVersion, LeaseHeld, Terms, Unfinished
from include.errors import AwsUnavailableError, ClaimLostError
from tests.worlds.call_details_run import FILE, LEASE, LedgerWorld, accepted
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import raising


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld()


def test_first_claim_wins_and_the_second_learns_who_has_it(world: LedgerWorld) -> None:
    assert world.claim() == Claim(FILE, "run-1", 1, 1)
    assert world.claim("run-2") == LeaseHeld("run-1", world.time.now + LEASE)


def test_versions_of_one_key_are_claimed_apart(world: LedgerWorld) -> None:
    world.claimed()
    other = FileVersion(FILE.bucket, FILE.key, '"e2"')
    assert isinstance(world.claim("run-2", file=other), Claim)


def test_owner_may_claim_again_what_it_has_and_so_renews(world: LedgerWorld) -> None:
    first = world.claimed()
    world.time.now += LEASE - 1
    assert world.claimed() == first
    world.time.now += LEASE - 1
    assert isinstance(world.claim("run-2"), LeaseHeld)


def test_claim_that_ran_out_is_taken_over_with_a_higher_fence(world: LedgerWorld) -> None:
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


def test_claim_that_ran_out_still_holds_if_nobody_took_it(world: LedgerWorld) -> None:
    claim = world.claimed()
    world.time.now += 10 * LEASE
    world.claims.renew(claim)
    assert isinstance(world.claim("run-2"), LeaseHeld)


def test_claim_of_an_owner_that_pauses_lasts_as_long_and_no_longer_than_a_retry_waits(world: LedgerWorld) -> None:
    claim = world.claimed()
    for pause, lasts in ((1000.0, 1000.0), (float("inf"), MAX_PAUSE_SECONDS)):
        world.claims.renew(claim, pause=pause)
        until = world.time.now + LEASE + lasts
        world.time.now += 1
        # Another of its tasks, which does not pause.
        world.claims.renew(claim)
        assert world.claim("run-2") == LeaseHeld("run-1", until)


def test_renewing_keeps_what_another_task_of_the_owner_noted(world: LedgerWorld) -> None:
    before = world.claimed()
    world.claims.note_plan(before, "plans/1.json")
    world.claims.renew(before)
    assert world.claims.current(FILE, "run-1").plan == "plans/1.json"


def test_claim_that_is_done_is_not_given_again_and_names_its_receipt(world: LedgerWorld) -> None:
    claim = world.claimed()
    for _ in range(2):
        world.claims.complete(claim, "receipts/1.json")
    for owner in ("run-1", "run-2"):
        assert world.claim(owner) == Done("receipts/1.json", "run-1")
    with pytest.raises(ClaimLostError):
        world.claims.renew(claim)
    with pytest.raises(ClaimLostError, match="is done"):
        world.claims.complete(claim, "receipts/other.json")


def test_force_begins_another_round_once_with_the_batches_cut_as_before(world: LedgerWorld) -> None:
    claim = world.claimed()
    world.open(claim).acknowledge(accepted(0))
    world.claims.note_plan(claim, "plans/1.json")
    world.claims.complete(claim, "receipts/1.json")
    again = world.claims.claim(FILE, "run-2", force=True)
    assert again == Claim(FILE, "run-2", 2, 2)
    assert world.claimed("run-2", force=True) == again, "a retry of the forced run goes on with its round"
    assert read_chunks(world.items, again) == []
    assert world.open(again).state.settled_batches == 0


def test_force_does_not_take_from_a_living_owner(world: LedgerWorld) -> None:
    world.claimed()
    assert isinstance(world.claim("run-2", force=True), LeaseHeld)


def test_unfinished_claims_are_found_until_they_are_done(world: LedgerWorld) -> None:
    claim = world.claimed()
    assert world.claims.unfinished() == [Unfinished(FILE, "run-1", begun=False, lapsed=False)]
    world.time.now += LEASE
    assert world.claims.unfinished() == [Unfinished(FILE, "run-1", begun=False, lapsed=True)]
    world.claims.complete(claim, "receipts/1.json")
    assert world.claims.unfinished() == []
    world.claimed("run-2", force=True)
    assert [each.file for each in world.claims.unfinished()] == [FILE]


def test_a_backlog_is_read_in_few_calls(world: LedgerWorld) -> None:
    files = [FileVersion("ingest", f"incoming/{number}", "e") for number in range(250)]
    for file in files:
        world.claim(file=file)
    world.table.calls.clear()
    assert {each.file for each in world.claims.unfinished()} == set(files)
    assert (world.table.calls["get_item"], world.table.calls["batch_get_item"]) == (0, 3)


def test_version_that_was_let_go_of_is_there_for_the_next_owner_at_once(world: LedgerWorld) -> None:
    claim = world.claimed()
    world.claims.release(claim)
    assert world.claims.unfinished() == [Unfinished(FILE, "run-1", begun=False, lapsed=False)], "nobody has died"
    assert world.claims.current(FILE, "run-1") == claim, "it may go on as long as nobody else does"
    taken = world.claimed("run-2")
    assert taken.fence == claim.fence + 1
    with pytest.raises(ClaimLostError):
        world.claims.release(claim)


def test_forgotten_version_is_not_unfinished_and_may_be_claimed_without_force(world: LedgerWorld) -> None:
    world.claims.forget(world.claimed())
    assert world.claims.unfinished() == []
    assert world.claimed("run-2").round == 1
    assert len(world.claims.unfinished()) == 1


def test_forgotten_version_is_not_begun_without_being_claimed_again(world: LedgerWorld) -> None:
    claim = world.claimed()

    def unplanned() -> Claim | None:
        return world.claims.unplanned(FILE, "run-1", world.claims.items([FILE])[FILE.partition])

    assert unplanned() == claim
    world.claims.forget(claim)
    assert unplanned() is None, "or nobody would find it if the run died"


def test_version_whose_terms_are_fixed_is_not_begun_by_others(world: LedgerWorld) -> None:
    world.claims.fix_terms(world.claimed(), Terms(500, "2026-03-08T00:00:00.000Z"))
    seen = world.claims.items([FILE])[FILE.partition]
    assert world.claims.unplanned(FILE, "run-1", seen) is None, "its batches may have been posted, in a round before"


def test_version_that_is_delivered_while_it_is_forgotten_is_not_lost(world: LedgerWorld) -> None:
    claim = world.claimed()

    def deliver() -> None:
        world.table.before.clear()
        world.claims.claim(FILE, "run-1", begun=False)

    world.table.before["delete_item"] = deliver
    world.claims.forget(claim)
    assert world.claims.unfinished() == [Unfinished(FILE, "run-1", begun=False, lapsed=False)]


def test_run_that_has_begun_is_known_until_its_file_is_delivered_again(world: LedgerWorld) -> None:
    for begun, known in ((None, False), (True, True), (None, True), (False, False), (None, False), (True, True)):
        claim = world.claims.claim(FILE, "run-1", begun=begun)
        assert isinstance(claim, Claim)
        assert claim.begun is world.claims.current(FILE, "run-1").begun is known


def test_terms_are_fixed_once_and_for_all_rounds_and_owners(world: LedgerWorld) -> None:
    first, other = Terms(500, "2026-03-08T00:00:00.000Z"), Terms(100, "2027-01-01T00:00:00.000Z")
    claim = world.claimed()
    assert claim.terms is None
    assert world.claims.fix_terms(claim, first).terms == first
    assert world.claims.fix_terms(claim, other).terms == first
    world.claims.complete(claim, "receipts/1.json")
    again = world.claimed("run-2", force=True)
    assert (again.round, again.terms) == (2, first)


def test_owner_that_died_while_completing_leaves_nothing_unfinished(world: LedgerWorld) -> None:
    claim = world.claimed()
    world.table.before["delete_item"] = raising(table_error("InternalServerError", 500))
    with pytest.raises(AwsUnavailableError):
        world.claims.complete(claim, "receipts/1.json")
    world.table.before.clear()
    assert world.claims.unfinished() == []
    assert not any(pk == "unfinished" for pk, _ in world.table.items)


def test_owner_that_died_while_claiming_is_found(world: LedgerWorld) -> None:
    calls = itertools.count()

    def fail_second() -> None:
        if next(calls) == 1:
            raise table_error("InternalServerError", 500)

    world.table.before["put_item"] = fail_second
    with pytest.raises(AwsUnavailableError):
        world.claim()
    assert world.claims.unfinished() == [Unfinished(FILE, None, begun=False, lapsed=True)]


@pytest.mark.parametrize("again", ["claim", "claim_new"])
def test_claim_without_a_pointer_is_found_when_it_is_claimed_again(again: str, world: LedgerWorld) -> None:
    """An earlier version wrote the pointer last, and may have died before that."""
    world.claimed()
    del world.table.items["unfinished", FILE.partition]
    assert world.claims.unfinished() == []
    if again == "claim":
        world.claimed()
    else:
        assert world.claims.claim_new(FILE, "run-2") is None
    assert [each.owner for each in world.claims.unfinished()] == ["run-1"]


def test_write_whose_answer_was_lost_and_that_botocore_repeats_is_known_again(world: LedgerWorld) -> None:
    def apply_twice() -> None:
        world.table.after.clear()
        # What botocore does after a time-out: the very same request once more.
        *_, name = (item["written_by"] for item in world.table.items.values())
        raise table_error("ConditionalCheckFailedException", Item={"written_by": name})

    world.table.after["put_item"] = apply_twice
    assert world.claim() == Claim(FILE, "run-1", 1, 1)


def test_new_claim_is_made_without_reading_and_by_one_only(world: LedgerWorld) -> None:
    assert world.claims.claim_new(FILE, "run-1") == Claim(FILE, "run-1", 1, 1)
    assert (world.table.calls["get_item"], world.table.calls["put_item"]) == (0, 2)
    assert world.claims.claim_new(FILE, "run-2") is None
    assert world.claims.unfinished() == [Unfinished(FILE, "run-1", begun=False, lapsed=False)]
    world.claims.forget(world.claims.current(FILE, "run-1"))
    assert world.claims.claim_new(FILE, "run-2") is None
    assert world.claims.unfinished() == [], "nobody need finish it"


def test_owner_that_died_before_the_claim_itself_was_written_is_found(world: LedgerWorld) -> None:
    world.claims.claim_new(FILE, "run-1")
    del world.table.items[FILE.partition, "claim"]
    assert world.claims.unfinished() == [Unfinished(FILE, None, begun=False, lapsed=True)]


def test_version_that_is_handed_over_waits_for_its_next_owner(world: LedgerWorld) -> None:
    claim = world.claimed()
    world.claims.hand_over(claim, "run-2")
    assert world.claims.unfinished() == [Unfinished(FILE, "run-2", begun=False, lapsed=False)]
    with pytest.raises(ClaimLostError):
        world.claims.renew(claim)
    assert world.claimed("run-2").fence == claim.fence + 1
