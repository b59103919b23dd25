"""Why records are not stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lambdas.common.errors import ApiError, UnavailableError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a body.

    Args:
        index: position of the record in the array, from 0; None when the fault is the body's own.
        field: name of the field; None when the fault is the record's own.
        message: what is wrong, without what was sent.
    """

    index: int | None
    field: str | None
    message: str


class InvalidRecordsError(ApiError):
    """The body breaks the schema.

    Args:
        faults: what is wrong, in the order of the body; at least one.
        total: number of faults found, which may be more than are listed.
    """

    status, code = 422, "invalid_records"

    def __init__(self, faults: Sequence[Fault], *, total: int) -> None:
        noun = "fault" if total == 1 else "faults"
        listed = f"; the first {len(faults)} are listed" if total > len(faults) else ""
        super().__init__(f"nothing was stored: the body has {total} {noun}{listed}")
        self.faults = tuple(faults)

    @property
    def details(self) -> Any:
        """The faults."""
        return [asdict(fault) for fault in self.faults]


class NotStoredError(UnavailableError):
    """The table took some records, or none, within the time there was.

    Args:
        stored: number of records that are known to be stored.
        not_stored: ids of the others. Some may be stored all the same when the table's answer got lost; sending them
            again does no harm.
        reasons: what the table said, as DynamoDB's error codes; for the log.
        worth_repeating: the table may take them later; else it refuses them until somebody repairs the service.
    """

    def __init__(
        self, *, stored: int, not_stored: Sequence[str], reasons: Sequence[str], worth_repeating: bool
    ) -> None:
        advice = "send those again later" if worth_repeating else "the service must be repaired before it takes those"
        super().__init__(
            f"records stored: {stored}, not stored: {len(not_stored)}; {advice}",
            reasons=tuple(reasons),
            worth_repeating=worth_repeating,
        )
        self.code = "partially_stored" if stored else "unavailable"
        self.stored = stored
        self.not_stored = tuple(not_stored)

    @property
    def details(self) -> Any:
        """What is stored and what is not."""
        return {"stored": self.stored, "not_stored": list(self.not_stored)}
