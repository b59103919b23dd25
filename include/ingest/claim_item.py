"""A claim as the ledger table has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from include.clients.items import Item
from include.ingest.claim import Claim, FileVersion, Terms

LET_GO = 0.0
"""End of a lease that its owner ended itself."""


@dataclass(frozen=True)
class StoredClaim:
    """One item of the table.

    Args:
        claim: the claim.
        until: when its lease ends, seconds since the epoch.
        receipt: where its receipt lies, if it is done.
    """

    claim: Claim
    until: float
    receipt: str | None

    def content(self) -> dict[str, Any]:
        """What is written; :meth:`of` reads it back."""
        return {
            **asdict(self.claim.file),
            "owner": self.claim.owner,
            "fence": self.claim.fence,
            "round": self.claim.round,
            "terms": asdict(self.claim.terms) if self.claim.terms else None,
            "plan": self.claim.plan,
            "begun": self.claim.begun,
            "receipt": self.receipt,
            "leased_until_ms": int(self.until * 1000),
        }

    @classmethod
    def of(cls, file: FileVersion, item: Item) -> Self:
        """The claim of a file version, from its item."""
        found = item.content
        claim = Claim(
            file=file,
            owner=found["owner"],
            fence=found["fence"],
            round=found["round"],
            terms=Terms(**found["terms"]) if found["terms"] else None,
            plan=found["plan"],
            begun=found["begun"],
        )
        return cls(claim, found["leased_until_ms"] / 1000, found["receipt"])
