"""Several owners of one file version, in any order, also in the middle of each other's steps."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from include.call_details.ledger import ChunkLedger, read_chunks
from include.call_details.models import ChunkState, Claim, Done, Settled
from include.errors import ClaimLostError
from tests.worlds.call_details_run import FILE, LEASE, LedgerWorld

BATCHES = 4
OWNERS = 2

ACTIONS = st.sampled_from(
    ["claim", "open", "acknowledge", "acknowledge", "renew", "release", "complete", "wait", "wait"]
)
STEP = st.tuples(ACTIONS, st.integers(0, OWNERS - 1), st.integers(0, BATCHES - 1))
"""What happens, who does it, and to which batch; ``wait`` lets time pass."""


@dataclass
class Owner:
    """A run as it sees itself: it goes on until it is told that it must not."""

    name: str
    claim: Claim | None = None
    chunk: ChunkLedger | None = None


class Model(LedgerWorld):
    """The ledger, its owners, and what must hold of their writes."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: set[int] = set()
        self.done_by: str | None = None
        self.opened_by: Owner | None = None
        self.opened_under = 0
        self.owners = [Owner(f"run-{number}") for number in range(OWNERS)]

    def do(self, step: tuple[str, int, int], interrupted_by: tuple[str, int, int] | None = None) -> None:
        """Take a step; the other one comes between its reading and its writing."""
        if interrupted_by is not None:

            def interrupt() -> None:
                self.table.before.clear()
                self.do(interrupted_by)

            self.table.before["put_item"] = interrupt
        action, number, batch = step
        owner = self.owners[number]
        try:
            if action == "wait":
                self.time.now += LEASE * (batch + 1) / 2
            elif action == "claim":
                self._claim(owner)
            elif owner.claim is not None:
                self._write(action, owner, owner.claim, batch)
        except ClaimLostError:
            owner.claim = owner.chunk = None
        self.table.before.clear()

    def _claim(self, owner: Owner) -> None:
        answer = self.claim(owner.name)
        if isinstance(answer, Claim):
            assert self.done_by is None
            owner.claim = answer
        elif isinstance(answer, Done):
            assert answer.owner == self.done_by

    def _write(self, action: str, owner: Owner, claim: Claim, batch: int) -> None:
        if action == "open":
            owner.chunk = self.open(claim, batches=BATCHES)
            assert claim.fence >= self.opened_under
            self.opened_by, self.opened_under = owner, claim.fence
        elif action == "acknowledge" and owner.chunk is not None:
            owner.chunk.acknowledge([Settled(batch, 500, accepted=True)])
            assert owner is self.opened_by
            self.acknowledged.add(batch)
        elif action == "renew":
            self.claims.renew(claim)
            assert self._fence() == claim.fence
        elif action == "release":
            self.claims.release(claim)
            assert self._fence() == claim.fence
        elif action == "complete":
            self.claims.complete(claim, f"receipts/{owner.name}")
            assert self.done_by in (None, owner.name)
            self.done_by = owner.name

    def check(self) -> None:
        """What must hold between any two steps."""
        assert {number for number in range(BATCHES) if self._chunk().is_settled(number)} == self.acknowledged
        assert self._chunk().records_accepted == 500 * len(self.acknowledged)
        current = [owner for owner in self.owners if owner.claim and owner.claim.fence == self._fence()]
        assert len(current) <= 1, "two owners under one fence"

    def _chunk(self) -> ChunkState:
        claim = Claim(FILE, "reader", 0, 1)
        return next(iter(read_chunks(self.items, claim)), ChunkState.fresh(0, 0, BATCHES))

    def _fence(self) -> int:
        found = self.items.get(FILE.partition, "claim")
        return found.content["fence"] if found.version else 0


@settings(max_examples=300)
@given(steps=st.lists(st.tuples(STEP, st.none() | STEP), min_size=10, max_size=40))
def test_only_the_last_owner_writes_and_nothing_acknowledged_is_lost(
    steps: list[tuple[tuple[str, int, int], tuple[str, int, int] | None]],
) -> None:
    model = Model()
    for step, interrupted_by in steps:
        model.do(step, interrupted_by)
        model.check()


@given(
    st.permutations(range(12)).flatmap(
        lambda order: st.lists(st.integers(1, 5), min_size=12).map(lambda sizes: (order, sizes))
    ),
    st.sets(st.integers(0, 11)),
)
def test_batches_add_up_in_whatever_order_and_groups_they_are_settled(
    order_and_sizes: tuple[list[int], list[int]], dead: set[int]
) -> None:
    order, sizes = order_and_sizes
    state = ChunkState.fresh(3, 100, 12)
    position = 0
    for size in sizes:
        group = [100 + number for number in order[position : position + size]]
        position += size
        settled = [Settled(number, number, accepted=number - 100 not in dead, retries=1) for number in group]
        # A batch that was settled before counts once.
        state = state.settle(settled + settled[:1], logins=1)
        done = {100 + number for number in order[:position]}
        assert {number for number in range(100, 112) if state.is_settled(number)} == done
        assert set(state.dead) == {number for number in done if number - 100 in dead}
        assert state.records_accepted + state.records_dead == sum(done)
        assert (state.settled_batches, state.retries) == (len(done), len(done))
    assert state.finished
    assert state.settled_beyond == frozenset()
    assert state.logins == len(sizes)
