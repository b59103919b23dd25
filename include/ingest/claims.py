"""Who works on a file version: one owner at a time, by a lease in the ledger table.

Every new owner gets a higher fence. What an owner writes later carries its fence, so that one that was stopped, and
goes on after another has taken over, is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Self

from include.clients.items import Item, ItemTable
from include.errors import ClaimLostError
from include.ingest.claim import Claim, Done, FileVersion, Held

LEASE_SECONDS = 900.0
"""Longer than any pause between two renewals of a healthy run: its tasks may wait for a worker."""

_CLAIM = "claim"
_UNFINISHED = "unfinished"
"""Partition of pointers to the claims that are not completed: one would have to read the whole table otherwise."""


class Claims:
    """Claims of one ledger table.

    Args:
        table: the ledger table.
        lease_seconds: how long a claim holds without being renewed.
        clock: seconds since the epoch; clocks of different machines may differ by much less than the lease.
    """

    def __init__(
        self, table: ItemTable, *, lease_seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._lease_seconds = lease_seconds
        self._clock = clock

    def claim(
        self, file: FileVersion, owner: str, *, records_per_batch: int, force: bool = False
    ) -> Claim | Held | Done:
        """Claim a file version, or learn why not. An owner may claim again what it has: that renews its lease.

        Args:
            file: what to claim.
            owner: the run that is going to work on it; the same text for all its tasks and their retries.
            records_per_batch: how its batches are cut if nobody has claimed it before.
            force: begin another round if it is done.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        while True:
            seen = self._table.get(file.partition, _CLAIM)
            next_ = self._next(file, owner, seen, records_per_batch, force=force)
            if not isinstance(next_, Claim):
                return next_
            if self._write(seen, next_):
                self._point_to(file)
                return next_
            # Somebody was faster: look again what it is now.

    def _next(
        self, file: FileVersion, owner: str, seen: Item, records_per_batch: int, *, force: bool
    ) -> Claim | Held | Done:
        if not seen.version:
            return Claim(file, owner, 1, 1, records_per_batch)
        now = _Stored.of(file, seen)
        taken_over = replace(now.claim, owner=owner, fence=now.claim.fence + 1)
        if now.receipt is not None:
            again = replace(taken_over, round=now.claim.round + 1, plan=None)
            return again if force else Done(now.receipt, now.claim.owner)
        if now.claim.owner == owner:
            return now.claim
        return Held(now.claim.owner, now.until) if now.until > self._clock() else taken_over

    def renew(self, claim: Claim) -> None:
        """Extend the lease; it may have run out, as long as nobody has taken over.

        Raises:
            ClaimLostError: somebody has taken over.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        self._change(claim, lambda current: current)

    def note_plan(self, claim: Claim, place: str) -> Claim:
        """Note where the round's plan lies: who takes over later has to go on by the same one.

        Raises:
            ClaimLostError: somebody has taken over.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        return self._change(claim, lambda current: replace(current, plan=place))

    def complete(self, claim: Claim, receipt: str) -> None:
        """Mark the file version as accounted for.

        Raises:
            ClaimLostError: somebody has taken over.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        pointer = self._table.get(_UNFINISHED, claim.file.partition)
        self._change(claim, lambda current: current, receipt=receipt)
        self._table.delete(pointer)

    def current(self, file: FileVersion, owner: str) -> Claim:
        """The claim that ``owner`` has, for those of its tasks that did not make it.

        Raises:
            ClaimLostError: it has none, or has completed it.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        seen = self._table.get(file.partition, _CLAIM)
        if seen.version and seen.content["owner"] == owner and seen.content["receipt"] is None:
            return _Stored.of(file, seen).claim
        raise ClaimLostError(f"{file.key} ({file.etag}) is not claimed by {owner} (any more)")

    def unfinished(self) -> list[tuple[FileVersion, Held | None]]:
        """File versions that were claimed and are not done, with who has them; None if nobody has any more.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        found: list[tuple[FileVersion, Held | None]] = []
        for pointer in self._table.query(_UNFINISHED):
            file = FileVersion(**pointer.content)
            seen = self._table.get(file.partition, _CLAIM)
            if not seen.version:
                found.append((file, None))
                continue
            now = _Stored.of(file, seen)
            if now.receipt is not None:
                # Its owner died between the two writes of complete().
                self._table.delete(pointer)
            else:
                found.append((file, Held(now.claim.owner, now.until) if now.until > self._clock() else None))
        return found

    def _change(self, claim: Claim, change: Callable[[Claim], Claim], *, receipt: str | None = None) -> Claim:
        while True:
            seen = self._table.get(claim.file.partition, _CLAIM)
            if not seen.version or seen.content["fence"] != claim.fence:
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}): another owner has taken over")
            now = _Stored.of(claim.file, seen)
            if now.receipt is not None:
                if now.receipt == receipt:
                    return now.claim
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}) is done: {now.receipt}")
            changed = change(now.claim)
            if self._write(seen, changed, receipt=receipt):
                return changed
            # Another task of the same owner was faster, and may have changed something else.

    def _write(self, seen: Item, claim: Claim, *, receipt: str | None = None) -> bool:
        content = {
            **asdict(claim.file),
            "owner": claim.owner,
            "fence": claim.fence,
            "round": claim.round,
            "records_per_batch": claim.records_per_batch,
            "plan": claim.plan,
            "receipt": receipt,
            "leased_until_ms": int((self._clock() + self._lease_seconds) * 1000),
        }
        return self._table.replace(seen, content) is not None

    def _point_to(self, file: FileVersion) -> None:
        # Written anew even if it is there: whoever is about to delete an older one must not delete this one.
        while self._table.replace(self._table.get(_UNFINISHED, file.partition), asdict(file)) is None:
            pass


@dataclass(frozen=True)
class _Stored:
    """A claim as the table has it."""

    claim: Claim
    until: float
    receipt: str | None

    @classmethod
    def of(cls, file: FileVersion, item: Item) -> Self:
        found = item.content
        claim = Claim(file, found["owner"], found["fence"], found["round"], found["records_per_batch"], found["plan"])
        return cls(claim, found["leased_until_ms"] / 1000, found["receipt"])
