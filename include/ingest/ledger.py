"""What became of each batch of a chunk, and which attempt of the chunk's task may say so.

A chunk is one item of the ledger table, replaced as a whole at each acknowledgement. Opening it for an attempt makes
every write of an earlier attempt fail, also of one that is still alive. All that is done in order shrinks to a single
number, so the item stays small, and writing it cheap, however many batches the chunk has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from include.clients.items import Item, ItemTable
from include.errors import ClaimLostError, InvalidInputError
from include.ingest.chunk import ChunkState, Settled
from include.ingest.claim import Claim


class ChunkLedger:
    """One attempt's hold on one chunk; only one thread at a time may acknowledge."""

    def __init__(self, table: ItemTable, item: Item, state: ChunkState) -> None:
        self._table = table
        self._item = item
        self.state = state

    @classmethod
    def open(cls, table: ItemTable, claim: Claim, index: int, *, first: int, batches: int) -> Self:
        """Take hold of a chunk: whoever had it before cannot acknowledge any more.

        Args:
            table: the ledger table.
            claim: of the file version, just renewed.
            index: of the chunk.
            first: number of its first batch.
            batches: how many it has.

        Raises:
            ClaimLostError: a later owner of the file version has opened it.
            InvalidInputError: the ledger knows the chunk with other batches, or it has too many.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
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
                    f"knows it as {state.first} to {state.first + state.batches - 1}: the plan was made anew"
                )
            item = table.replace(seen, _content(state, claim.fence))
            if item is not None:
                return cls(table, item, state)

    def acknowledge(self, settled: Sequence[Settled], *, logins: int = 0) -> None:
        """Settle batches in one write.

        Args:
            settled: what became of them.
            logins: calls of the login since the last time.

        Raises:
            ClaimLostError: another attempt or owner has opened the chunk; these batches are not settled.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        state = self.state.settle(settled, logins=logins)
        item = self._table.replace(self._item, _content(state, self._item.content["fence"]))
        if item is None:
            raise ClaimLostError(f"chunk {state.index} was taken over by another attempt or owner")
        self._item, self.state = item, state


def read_chunks(table: ItemTable, claim: Claim) -> list[ChunkState]:
    """All chunks of the claim's round that were ever opened, by index.

    Raises:
        AwsUnavailableError: a retry may work.
        AwsRefusedError: it will not.
    """
    return [_state(item.content) for item in table.query(claim.file.partition, _sort_key(claim))]


def _sort_key(claim: Claim, index: int | None = None) -> str:
    return f"round#{claim.round:06d}#chunk#{'' if index is None else f'{index:06d}'}"


def _content(state: ChunkState, fence: int) -> dict[str, Any]:
    return {
        **vars(state),
        "fence": fence,
        "settled_beyond": sorted(state.settled_beyond),
        "dead": list(state.dead),
    }


def _state(content: Mapping[str, Any]) -> ChunkState:
    found = {name: value for name, value in content.items() if name != "fence"}
    return ChunkState(**{**found, "settled_beyond": frozenset(found["settled_beyond"]), "dead": tuple(found["dead"])})
