"""The ledger table: which run owns a file version, and how far each chunk of it has come.

A claim is a lease. Every new owner gets a higher fence, and what it writes carries that fence: an owner that was
stopped, and goes on after another has taken over, is refused.

A chunk is one item, replaced as a whole at each acknowledgement. Opening it for an attempt makes every write of an
earlier attempt fail, also of one that is still alive. Batches settled in order shrink to a single number, so the item
stays small, and writing it cheap, however many batches the chunk has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from include.call_details.models import ChunkState, Claim, Done, FileVersion, LeaseHeld, Settled, Terms, Unfinished
from include.clients.dynamodb import Item, ItemTable
from include.errors import ClaimLostError, InvalidInputError

LEASE_SECONDS = 900.0
"""Longer than any pause between two renewals of a healthy run: its tasks may wait for a worker."""

MAX_PAUSE_SECONDS = 3600.0
"""Longest pause that a run makes because the API asks for it: as long as a task's retry waits at most."""

RELEASED = 0.0
"""End of a lease that its owner ended itself."""

_CLAIM = "claim"
_UNFINISHED = "unfinished"
"""Partition of pointers to the claims that are not completed; without it one would have to read the whole table."""


class Claims:
    """Claims of one ledger table; each holds for ``lease_seconds`` without being renewed.

    What is to change a claim, or to find an owner's, raises ClaimLostError if another owner has taken over. Clocks
    (seconds since the epoch) of different machines may differ by much less than the lease.
    """

    def __init__(
        self, table: ItemTable, *, lease_seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self.table = table
        self._lease_seconds = lease_seconds
        self._clock = clock

    def claim(
        self, file: FileVersion, owner: str, *, force: bool = False, begun: bool | None = None
    ) -> Claim | LeaseHeld | Done:
        """Claim a file version, or learn why not. An owner may claim again what it has: that renews its lease.

        The owner is the run that is going to work on it, the same text for all its tasks and their retries. ``force``
        begins another round of what is done; ``begun``: the owner begins, or is to be started; None = as it is.
        """
        while True:
            seen = self.table.get(file.partition, _CLAIM)
            next_ = self._next(file, owner, seen, force=force, begun=begun)
            if not isinstance(next_, Claim):
                return next_
            # Before the claim: whoever dies between the two writes would never be found again.
            self._mark_unfinished(file)
            if self._write(seen, next_):
                return next_
            # Else another owner was faster: read what it is now.

    def claim_new(self, file: FileVersion, owner: str) -> Claim | None:
        """Claim a version that nobody has claimed yet, for an owner that is to be started; None if somebody has."""
        claim = Claim(file, owner, 1, 1)
        # Before the claim, as nothing can take a pointer away whose claim never was.
        made = self._mark_unfinished(file, new=True)
        if self._write(Item(file.partition, _CLAIM), claim):
            return claim
        if made is not None:
            now = _StoredClaim.of(file, self.table.get(file.partition, _CLAIM))
            if now.receipt is not None or now.until == RELEASED:
                # It had none, as it is done, or need not be finished. Else its owner has died between the two writes.
                self.table.delete(made)
        return None

    def items(self, files: Iterable[FileVersion]) -> dict[str, Item]:
        """The claims of many versions as they are stored, by partition, for ``seen`` below; of each that was made."""
        return {item.pk: item for item in self.table.get_many((file.partition, _CLAIM) for file in files)}

    def owned(self, file: FileVersion, owner: str, seen: Item | None) -> Claim | None:
        """The claim that ``seen`` is, if it is the owner's and not completed."""
        if seen is None or seen.content["owner"] != owner or seen.content["receipt"] is not None:
            return None
        return _StoredClaim.of(file, seen).claim

    def unplanned(self, file: FileVersion, owner: str, seen: Item | None) -> Claim | None:
        """The claim that ``seen`` is, if it was made for the owner, and nothing has come of it yet."""
        claim = self.owned(file, owner, seen)
        if claim is None or seen is None or seen.content["leased_until_ms"] == RELEASED:
            return None
        return claim if claim.plan is None and claim.terms is None else None

    def begin(self, claim: Claim, seen: Item, *, terms: Terms, plan: str) -> Claim | None:
        """Begin what :meth:`unplanned` returned, by its first plan; None if the claim is not the one seen any more."""
        begun = replace(claim, terms=terms, plan=plan, begun=True)
        return begun if self._write(seen, begun) else None

    def _next(
        self, file: FileVersion, owner: str, seen: Item, *, force: bool, begun: bool | None
    ) -> Claim | LeaseHeld | Done:
        if not seen.version:
            return Claim(file, owner, 1, 1, begun=bool(begun))
        now = _StoredClaim.of(file, seen)
        mine = replace(now.claim, begun=now.claim.begun if begun is None else begun)
        taken_over = replace(mine, owner=owner, fence=mine.fence + 1)
        if now.receipt is not None:
            again = replace(taken_over, round=now.claim.round + 1, plan=None)
            return again if force else Done(now.receipt, now.claim.owner)
        if now.claim.owner == owner:
            return mine
        return LeaseHeld(now.claim.owner, now.until) if now.until > self._clock() else taken_over

    def renew(self, claim: Claim, *, pause: float = 0.0) -> None:
        """Extend the lease, which may have run out, also by a pause of its owner up to :data:`MAX_PAUSE_SECONDS`."""
        until = self._clock() + self._lease_seconds + min(pause, MAX_PAUSE_SECONDS)
        self._change(claim, lambda current: current, lease=lambda current: max(current, until))

    def fix_terms(self, claim: Claim, terms: Terms) -> Claim:
        """Fix the terms of the version's batches, unless that was done before."""
        return self._change(claim, lambda current: replace(current, terms=current.terms or terms))

    def note_plan(self, claim: Claim, key: str) -> Claim:
        """Note where the round's plan is: a later owner has to go on by the same one."""
        return self._change(claim, lambda current: replace(current, plan=key))

    def complete(self, claim: Claim, receipt: str, *, pointer: Item | None = None, seen: Item | None = None) -> None:
        """Mark the file version as accounted for, in the receipt under that key.

        A pointer of :meth:`pointers`, read before the claim, and ``seen``, of :meth:`items`, save reading them.
        """
        pointer = pointer or self.table.get(_UNFINISHED, claim.file.partition)
        self._change(claim, lambda current: current, receipt=receipt, seen=seen)
        self.table.delete(pointer)

    def pointers(self, files: Iterable[FileVersion]) -> dict[str, Item]:
        """Pointers to the claims of many versions, by partition, for :meth:`complete`."""
        return {item.sk: item for item in self.table.get_many((_UNFINISHED, file.partition) for file in files)}

    def hand_over(self, claim: Claim, owner: str) -> None:
        """Give a version that was not planned yet to an owner that is to be started."""
        self._change(claim, lambda current: replace(current, owner=owner, fence=current.fence + 1, begun=False))

    def release(self, claim: Claim) -> None:
        """End the lease on a version that is not done, so that its next owner need not wait."""
        self._change(claim, lambda current: current, lease=lambda current: RELEASED)

    def forget(self, claim: Claim) -> None:
        """End the lease on a version that need not be finished. It may be claimed again all the same."""
        pointer = self.table.get(_UNFINISHED, claim.file.partition)
        self.release(claim)
        self.table.delete(pointer)

    def is_done(self, file: FileVersion) -> bool:
        """Whether every record of the version is accounted for."""
        seen = self.table.get(file.partition, _CLAIM)
        return bool(seen.version) and seen.content["receipt"] is not None

    def is_begun(self, file: FileVersion, owner: str) -> bool:
        """Whether a run has begun on the version, which is not done: the owner, or one that has it no more."""
        seen = self.table.get(file.partition, _CLAIM)
        if not seen.version:
            return False
        now = _StoredClaim.of(file, seen)
        held = now.claim.owner != owner and now.until > self._clock()
        return now.receipt is None and now.claim.begun and not held

    def current(self, file: FileVersion, owner: str) -> Claim:
        """The claim that ``owner`` has and has not completed, for those of its tasks that did not make it."""
        seen = self.table.get(file.partition, _CLAIM)
        if seen.version and (claim := self.owned(file, owner, seen)):
            return claim
        raise ClaimLostError(f"{file.key} ({file.etag}) is not claimed by {owner} (any more)")

    def unfinished(self) -> list[Unfinished]:
        """File versions that were claimed and are neither done nor forgotten."""
        pointers = {pointer.sk: pointer for pointer in self.table.query(_UNFINISHED)}
        claims = {item.pk: item for item in self.table.get_many((partition, _CLAIM) for partition in pointers)}
        found: list[Unfinished] = []
        for partition, pointer in pointers.items():
            file = FileVersion(**pointer.content)
            if partition not in claims:
                found.append(Unfinished(file, None, begun=False, lapsed=True))
                continue
            now = _StoredClaim.of(file, claims[partition])
            if now.receipt is not None:
                # Its owner died between the two writes of complete().
                self.table.delete(pointer)
            else:
                lapsed = RELEASED < now.until <= self._clock()
                found.append(Unfinished(file, now.claim.owner, now.claim.begun, lapsed))
        return found

    def begun_by(self, owner: str, bucket: str, key: str) -> FileVersion | None:
        """The version under a key that an owner has begun on and not finished, if there is one."""
        files = (each.file for each in self.unfinished() if each.owner == owner and each.begun)
        return next((file for file in files if (file.bucket, file.key) == (bucket, key)), None)

    def under_way(self, most: int) -> tuple[list[Claim], int]:
        """Up to ``most`` claims that are not completed, and how many there are in all; changes nothing."""
        pointers = self.table.query(_UNFINISHED)
        files = {pointer.sk: FileVersion(**pointer.content) for pointer in pointers[:most]}
        items = self.table.get_many((partition, _CLAIM) for partition in files)
        stored = [_StoredClaim.of(files[item.pk], item) for item in items]
        return [each.claim for each in stored if each.receipt is None], len(pointers)

    def _change(
        self,
        claim: Claim,
        change: Callable[[Claim], Claim],
        *,
        receipt: str | None = None,
        lease: Callable[[float], float] | None = None,
        seen: Item | None = None,
    ) -> Claim:
        while True:
            seen = seen or self.table.get(claim.file.partition, _CLAIM)
            if not seen.version or seen.content["fence"] != claim.fence:
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}): another owner has taken over")
            now = _StoredClaim.of(claim.file, seen)
            if now.receipt is not None:
                if now.receipt == receipt:
                    return now.claim
                raise ClaimLostError(f"{claim.file.key} ({claim.file.etag}) is done: {now.receipt}")
            changed = change(now.claim)
            if self._write(seen, changed, receipt=receipt, until=lease(now.until) if lease else None):
                return changed
            # Another task of the same owner was faster, and may have changed something else.
            seen = None

    def _write(self, seen: Item, claim: Claim, *, receipt: str | None = None, until: float | None = None) -> bool:
        until = self._clock() + self._lease_seconds if until is None else until
        return self.table.replace(seen, _StoredClaim(claim, until, receipt).content()) is not None

    def _mark_unfinished(self, file: FileVersion, *, new: bool = False) -> Item | None:
        """Write the pointer to a claim, and return it if ``new`` and there was none."""
        pointer = Item(_UNFINISHED, file.partition)
        if new and (made := self.table.replace(pointer, asdict(file))) is not None:
            return made
        # Written again even if it is there: whoever is about to delete an older one must not delete this one.
        while self.table.replace(self.table.get(_UNFINISHED, file.partition), asdict(file)) is None:
            pass
        return None


@dataclass(frozen=True)
class _StoredClaim:
    """One item of the table: a claim, the end of its lease, and its receipt's key, if it is done."""

    claim: Claim
    until: float
    receipt: str | None

    def content(self) -> dict[str, Any]:
        claim = asdict(self.claim)
        return {**claim.pop("file"), **claim, "receipt": self.receipt, "leased_until_ms": int(self.until * 1000)}

    @classmethod
    def of(cls, file: FileVersion, item: Item) -> Self:
        found = item.content
        kept = {name: found[name] for name in ("owner", "fence", "round", "plan", "begun")}
        claim = Claim(file=file, terms=Terms(**found["terms"]) if found["terms"] else None, **kept)
        return cls(claim, found["leased_until_ms"] / 1000, found["receipt"])


class ChunkLedger:
    """One attempt's hold on one chunk of a file; only one thread at a time may acknowledge."""

    def __init__(self, table: ItemTable, file: FileVersion, item: Item, state: ChunkState) -> None:
        self.file = file
        self.state = state
        self._table = table
        self._item = item

    @classmethod
    def never_opened(cls, table: ItemTable, claim: Claim, seen: Item, *, first: int, batches: int) -> Self:
        """A first chunk that :func:`first_chunks` did not find; of two attempts the first to acknowledge has it."""
        item = replace(seen, content={"fence": claim.fence})
        return cls(table, claim.file, item, ChunkState.fresh(0, first, batches))

    @classmethod
    def open(cls, table: ItemTable, claim: Claim, index: int, *, first: int, batches: int) -> Self:
        """Open a chunk for an attempt: the one that had it before cannot acknowledge any more.

        Raises:
            ClaimLostError: a later owner of the file version has opened it.
            InvalidInputError: the ledger knows the chunk with other batches, or it has too many.
        """
        fresh = ChunkState.fresh(index, first, batches)
        while True:
            seen = table.get(claim.file.partition, _sort_key(claim, index))
            state = _state(seen.content) if seen.version else fresh
            if seen.version and seen.content["fence"] > claim.fence:
                raise ClaimLostError(f"chunk {index} of {claim.file.key} ({claim.file.etag}) has a later owner")
            if (state.first, state.batches) != (first, batches):
                raise InvalidInputError(
                    f"chunk {index} of {claim.file.key} has batches {first} to {first + batches - 1}, but the ledger "
                    f"knows it as {state.first} to {state.first + state.batches - 1}: the plan was replaced"
                )
            item = table.replace(seen, _content(state, claim.fence))
            if item is not None:
                return cls(table, claim.file, item, state)

    def acknowledge(self, settled: Sequence[Settled], *, logins: int = 0, retries: int = 0) -> None:
        """Settle batches in one write, and count calls of the login since the last one, and posts of batches that are
        not settled.

        Raises:
            ClaimLostError: another attempt or owner has opened the chunk; these batches are not settled.
        """
        state = self.state.settle(settled, logins=logins, retries=retries)
        item = self._table.replace(self._item, _content(state, self._item.content["fence"]))
        if item is None:
            raise ClaimLostError(f"chunk {state.index} was taken over by another attempt or owner")
        self._item, self.state = item, state


def read_chunks(table: ItemTable, claim: Claim) -> list[ChunkState]:
    """All chunks of the claim's round that were ever opened, by index."""
    return [_state(item.content) for item in table.query(claim.file.partition, _sort_key(claim))]


def first_chunks(table: ItemTable, claims: Sequence[Claim]) -> dict[str, Item]:
    """The first chunk of each claim's round as it is stored, by partition; of version 0 if it was never opened."""
    never = {claim.file.partition: Item(claim.file.partition, _sort_key(claim, 0)) for claim in claims}
    return never | {item.pk: item for item in table.get_many((each.pk, each.sk) for each in never.values())}


def chunk_state(item: Item) -> ChunkState | None:
    """The chunk that an item of :func:`first_chunks` is, or None if it was never opened."""
    return _state(item.content) if item.version else None


def _sort_key(claim: Claim, index: int | None = None) -> str:
    return f"round#{claim.round:06d}#chunk#{'' if index is None else f'{index:06d}'}"


def _content(state: ChunkState, fence: int) -> dict[str, Any]:
    return {**vars(state), "fence": fence, "settled_beyond": sorted(state.settled_beyond), "dead": list(state.dead)}


def _state(content: Mapping[str, Any]) -> ChunkState:
    found = {name: value for name, value in content.items() if name != "fence"}
    return ChunkState(**{**found, "settled_beyond": frozenset(found["settled_beyond"]), "dead": tuple(found["dead"])})
