"""A ledger table in memory with a clock, for tests of claims and chunks."""

from __future__ import annotations

from include.call_details.ledger import ChunkLedger, Claims
from include.call_details.models import Claim, Done, FileVersion, LeaseHeld, Settled
from include.clients.dynamodb import ItemTable
from tests.worlds.call_details import FakeTime
from tests.worlds.dynamodb import TABLE, FakeLedgerTable

FILE = FileVersion("ingest", "incoming/a b+c.txt", '"e1"')
LEASE = 100.0


class LedgerWorld:
    """A table, a clock, and claims on them."""

    def __init__(self) -> None:
        self.fake = FakeLedgerTable()
        self.time = FakeTime()
        self.table = ItemTable(self.fake, TABLE)
        self.claims = Claims(self.table, lease_seconds=LEASE, clock=self.time)

    def claim(self, owner: str = "run-1", *, file: FileVersion = FILE, force: bool = False) -> Claim | LeaseHeld | Done:
        return self.claims.claim(file, owner, force=force)

    def claimed(self, owner: str = "run-1", *, force: bool = False) -> Claim:
        claim = self.claim(owner, force=force)
        assert isinstance(claim, Claim)
        return claim

    def open(self, claim: Claim, index: int = 0, first: int = 0, batches: int = 4) -> ChunkLedger:
        return ChunkLedger.open(self.table, claim, index, first=first, batches=batches)


def accepted(*numbers: int) -> list[Settled]:
    return [Settled(number, 500, accepted=True) for number in numbers]
