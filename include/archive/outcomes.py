"""What became of each client: what a retry resumes from and what the manifest is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from include import outcomes
from include.outcomes import Progress

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Result(StrEnum):
    """How a client ended."""

    ARCHIVED = "archived"
    """The first archive of that client and day."""
    UPDATED = "updated"
    """A new version: the answer differs from the one kept before."""
    UNCHANGED = "unchanged"
    """The answer is the one kept before; nothing was written."""
    FAILED = "failed"
    """Nothing was written; ``error`` says why."""


@dataclass(frozen=True)
class Outcome:
    """One client's outcome. ``key``, ``sha256``, ``bytes`` and ``version_id`` are None when it failed.

    Args:
        bytes: length of the archived body.
        error: why it failed, without body or secret.
        retryable: a retry may mend the failure.
        retry_after: seconds that the API asked to wait.
    """

    client_id: int
    outcome: Result
    key: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    version_id: str | None = None
    error: str | None = None
    retryable: bool = False
    retry_after: float | None = None

    @property
    def item(self) -> int:
        """The client."""
        return self.client_id

    @property
    def failed(self) -> bool:
        """Whether nothing was written."""
        return self.outcome is Result.FAILED

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The outcome whose fields are in ``document``."""
        return cls(**{**document, "outcome": Result(document["outcome"])})


class OutcomeFile(outcomes.OutcomeFile[Outcome]):
    """The outcomes of one mapped task, by client id."""

    def __init__(self, s3: S3Client, bucket: str, key: str, *, clear_number: int) -> None:
        super().__init__(Outcome, s3, bucket, key, clear_number=clear_number)


def read_outcomes(s3: S3Client, bucket: str, key: str, *, index: int, progress: Progress) -> list[Outcome]:
    """The outcomes of a slice's task; see :func:`include.outcomes.read_outcomes`."""
    return outcomes.read_outcomes(Outcome, s3, bucket, key, index=index, progress=progress)
