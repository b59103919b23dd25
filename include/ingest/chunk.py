"""What became of the batches of a chunk, as one small value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from include.errors import InvalidInputError

MAX_BATCHES_PER_CHUNK = 40_000
"""If all were dead letters, their numbers (7 bytes each at most) would still fit into an item's 400 KB."""


@dataclass(frozen=True)
class Settled:
    """A batch that needs nothing more.

    Args:
        number: of the batch, from 0 through the whole file.
        records: how many it holds.
        accepted: by the API; otherwise it is a dead letter.
        retries: attempts beyond the first.
    """

    number: int
    records: int
    accepted: bool
    retries: int = 0


@dataclass(frozen=True)
class ChunkState:
    """How far a chunk has come.

    Args:
        index: of the chunk in the file, from 0.
        first: number of its first batch.
        batches: how many it has.
        settled_to: all batches before this number are settled.
        settled_beyond: those at or after it that are settled as well.
        dead: those of the settled that are dead letters.
        records_accepted: records of the accepted batches.
        records_dead: records of the dead letters.
        retries: of the settled batches, see :class:`Settled`.
        logins: calls of the login that all attempts made.
    """

    index: int
    first: int
    batches: int
    settled_to: int
    settled_beyond: frozenset[int] = frozenset()
    dead: tuple[int, ...] = ()
    records_accepted: int = 0
    records_dead: int = 0
    retries: int = 0
    logins: int = 0

    @classmethod
    def fresh(cls, index: int, first: int, batches: int) -> Self:
        """A chunk of which nothing is settled.

        Raises:
            InvalidInputError: it has more batches than an item can account for.
        """
        if not 1 <= batches <= MAX_BATCHES_PER_CHUNK:
            raise InvalidInputError(f"a chunk has 1 to {MAX_BATCHES_PER_CHUNK:,} batches, not {batches:,}")
        return cls(index, first, batches, settled_to=first)

    @property
    def settled_batches(self) -> int:
        """How many batches are settled."""
        return self.settled_to - self.first + len(self.settled_beyond)

    @property
    def accepted_batches(self) -> int:
        """How many of them were accepted."""
        return self.settled_batches - len(self.dead)

    @property
    def finished(self) -> bool:
        """Nothing is left to post."""
        return self.settled_batches == self.batches

    def is_settled(self, number: int) -> bool:
        """Whether a batch needs nothing more."""
        return number < self.settled_to or number in self.settled_beyond

    def settle(self, settled: Iterable[Settled], *, logins: int = 0) -> Self:
        """The state after these batches were settled too; one that was settled before changes nothing.

        Raises:
            ValueError: a batch is not of this chunk.
        """
        beyond, dead = set(self.settled_beyond), list(self.dead)
        accepted_records, dead_records, retries = self.records_accepted, self.records_dead, self.retries
        for each in settled:
            if not self.first <= each.number < self.first + self.batches:
                raise ValueError(f"batch {each.number} is not of chunk {self.index}")
            if each.number < self.settled_to or each.number in beyond:
                continue
            beyond.add(each.number)
            retries += each.retries
            if each.accepted:
                accepted_records += each.records
            else:
                dead_records += each.records
                dead.append(each.number)
        to = self.settled_to
        while to in beyond:
            beyond.remove(to)
            to += 1
        return replace(
            self,
            settled_to=to,
            settled_beyond=frozenset(beyond),
            dead=tuple(dead),
            records_accepted=accepted_records,
            records_dead=dead_records,
            retries=retries,
            logins=self.logins + logins,
        )
