"""What became of each client: the ledger that a retry resumes from and that the manifest is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from include.clients.s3 import get_json, put_json

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


class OutcomeFile:
    """The outcomes of one mapped task, as one JSON object in S3.

    Args:
        clear_number: how often the run was cleared. A retry finds outcomes of its own number and resumes; a task that
            was cleared finds an earlier number and does its work again.
    """

    def __init__(self, s3: S3Client, bucket: str, key: str, *, clear_number: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._clear_number = clear_number

    def resume(self) -> dict[int, Outcome]:
        """Outcomes that earlier attempts of this run left, by client id."""
        document = get_json(self._s3, self._bucket, self._key)
        if document is None or document["clear_number"] != self._clear_number:
            return {}
        return {outcome.client_id: outcome for outcome in _parse(document)}

    def save(self, outcomes: Iterable[Outcome]) -> None:
        """Replace the file by these outcomes."""
        document = {
            "clear_number": self._clear_number,
            "outcomes": [asdict(outcome) for outcome in outcomes],
        }
        put_json(self._s3, self._bucket, self._key, document)


@dataclass(frozen=True)
class Progress:
    """How far a run's tasks have come, as Airflow knows it.

    Args:
        clear_number: how often the run has been cleared by now.
        planned_at: how often it had been when it was planned.
        succeeded: indexes of the slices whose tasks succeeded.
    """

    clear_number: int
    planned_at: int
    succeeded: frozenset[int]


def read_outcomes(s3: S3Client, bucket: str, key: str, *, index: int, progress: Progress) -> list[Outcome]:
    """The outcomes that the task of a slice left, if they still tell the truth.

    A task that was cleared, and then died before its first save, leaves those of its earlier life. They are taken
    for true only when the task succeeded (it was not cleared) or when they name a failure themselves.

    Args:
        s3: a boto3 client.
        bucket: the archive bucket.
        key: see :func:`include.archive.keys.outcomes_key`.
        index: index of the slice.
        progress: how far the run's tasks have come.
    """
    document = get_json(s3, bucket, key)
    if document is None or document["clear_number"] < progress.planned_at:
        return []
    outcomes = _parse(document)
    current = document["clear_number"] == progress.clear_number or index in progress.succeeded
    return outcomes if current or any(outcome.outcome is Result.FAILED for outcome in outcomes) else []


def _parse(document: dict[str, Any]) -> list[Outcome]:
    return [Outcome(**{**item, "outcome": Result(item["outcome"])}) for item in document["outcomes"]]
