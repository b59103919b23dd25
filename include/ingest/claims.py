"""Who works on a file version: one owner at a time, by a lease in the ledger table.

Every new owner gets a higher fence. What an owner writes later carries its fence, so that one that was stopped, and
goes on after another has taken over, is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace

from include.clients.items import Item, ItemTable
from include.errors import ClaimLostError
from include.ingest.claim import Claim, Done, FileVersion, Held, Terms, Unfinished
from include.ingest.claim_item import LET_GO, StoredClaim

LEASE_SECONDS = 900.0
"""Longer than any pause between two renewals of a healthy run: its tasks may wait for a worker."""

MAX_PAUSE_SECONDS = 3600.0
"""Longest pause that a run makes because the API asks for it: as long as a task's retry waits at most."""

_CLAIM = "claim"
_UNFINISHED = "unfinished"
"""Partition of pointers to the claims that are not completed: one would have to read the whole table otherwise."""


class Claims:
    """Claims of one ledger table.

    Every method may raise AwsUnavailableError (a retry may work) and AwsRefusedError (it will not).

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
        self, file: FileVersion, owner: str, *, force: bool = False, begun: bool | None = None
    ) -> Claim | Held | Done:
        """Claim a file version, or learn why not. An owner may claim again what it has: that renews its lease.

        Args:
            file: what to claim.
            owner: the run that is going to work on it; the same text for all its tasks and their retries.
            force: begin another round if it is done.
            begun: True if the owner sets to work, False if it is to be started, None to leave that as it is.
        """
        while True:
            seen = self._table.get(file.partition, _CLAIM)
            next_ = self._next(file, owner, seen, force=force, begun=begun)
            if not isinstance(next_, Claim):
                return next_
            if self._write(seen, next_):
                self._point_to(file)
                return next_
            # Somebody was faster: look again what it is now.

    def _next(
        self, file: FileVersion, owner: str, seen: Item, *, force: bool, begun: bool | None
    ) -> Claim | Held | Done:
        if not seen.version:
            return Claim(file, owner, 1, 1, begun=bool(begun))
        now = StoredClaim.of(file, seen)
        mine = replace(now.claim, begun=now.claim.begun if begun is None else begun)
        taken_over = replace(mine, owner=owner, fence=mine.fence + 1)
        if now.receipt is not None:
            again = replace(taken_over, round=now.claim.round + 1, plan=None)
            return again if force else Done(now.receipt, now.claim.owner)
        if now.claim.owner == owner:
            return mine
        return Held(now.claim.owner, now.until) if now.until > self._clock() else taken_over

    def renew(self, claim: Claim, *, pause: float = 0.0) -> None:
        """Extend the lease; it may have run out, as long as nobody has taken over.

        Args:
            claim: what to keep.
            pause: seconds in which its owner will do nothing, up to :data:`MAX_PAUSE_SECONDS`.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        until = self._clock() + self._lease_seconds + min(pause, MAX_PAUSE_SECONDS)
        self._change(claim, lambda current: current, lease=lambda current: max(current, until))

    def fix(self, claim: Claim, terms: Terms) -> Claim:
        """Fix the terms of the version's batches, unless that was done before.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        return self._change(claim, lambda current: replace(current, terms=current.terms or terms))

    def note_plan(self, claim: Claim, place: str) -> Claim:
        """Note where the round's plan lies: who takes over later has to go on by the same one.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        return self._change(claim, lambda current: replace(current, plan=place))

    def complete(self, claim: Claim, receipt: str) -> None:
        """Mark the file version as accounted for.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        pointer = self._table.get(_UNFINISHED, claim.file.partition)
        self._change(claim, lambda current: current, receipt=receipt)
        self._table.delete(pointer)

    def release(self, claim: Claim) -> None:
        """Let go of a version that is not done: its next owner need not wait for the end of the lease.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        self._change(claim, lambda current: current, lease=lambda current: LET_GO)

    def forget(self, claim: Claim) -> None:
        """Let go of a version that nobody has to finish. Whoever claims it after all may try.

        Raises:
            ClaimLostError: somebody has taken over.
        """
        pointer = self._table.get(_UNFINISHED, claim.file.partition)
        self.release(claim)
        self._table.delete(pointer)

    def current(self, file: FileVersion, owner: str) -> Claim:
        """The claim that ``owner`` has, for those of its tasks that did not make it.

        Raises:
            ClaimLostError: it has none, or has completed it.
        """
        seen = self._table.get(file.partition, _CLAIM)
        if seen.version and seen.content["owner"] == owner and seen.content["receipt"] is None:
            return StoredClaim.of(file, seen).claim
        raise ClaimLostError(f"{file.key} ({file.etag}) is not claimed by {owner} (any more)")

    def unfinished(self) -> list[Unfinished]:
        """File versions that were claimed and are neither done nor forgotten."""
        found: list[Unfinished] = []
        for pointer in self._table.query(_UNFINISHED):
            file = FileVersion(**pointer.content)
            seen = self._table.get(file.partition, _CLAIM)
            if not seen.version:
                found.append(Unfinished(file, begun=False, lapsed=True))
                continue
            now = StoredClaim.of(file, seen)
            if now.receipt is not None:
                # Its owner died between the two writes of complete().
                self._table.delete(pointer)
            else:
                found.append(Unfinished(file, now.claim.begun, lapsed=LET_GO < now.until <= self._clock()))
        return found

    def _change(
        self,
        claim: Claim,
        change: Callable[[Claim], Claim],
        *,
        receipt: str | None = None,
        lease: Callable[[float], float] | None = None,
    ) -> Claim:
        while True:
            seen = self._table.get(claim.file.partition, _CLAIM)
            if not seen.version or seen.content["fence"] != claim.fence:
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}): another owner has taken over")
            now = StoredClaim.of(claim.file, seen)
            if now.receipt is not None:
                if now.receipt == receipt:
                    return now.claim
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}) is done: {now.receipt}")
            changed = change(now.claim)
            if self._write(seen, changed, receipt=receipt, until=lease(now.until) if lease else None):
                return changed
            # Another task of the same owner was faster, and may have changed something else.

    def _write(self, seen: Item, claim: Claim, *, receipt: str | None = None, until: float | None = None) -> bool:
        until = self._clock() + self._lease_seconds if until is None else until
        return self._table.replace(seen, StoredClaim(claim, until, receipt).content()) is not None

    def _point_to(self, file: FileVersion) -> None:
        # Written anew even if it is there: whoever is about to delete an older one must not delete this one.
        while self._table.replace(self._table.get(_UNFINISHED, file.partition), asdict(file)) is None:
            pass
