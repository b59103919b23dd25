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


def read_outcomes(s3: S3Client, bucket: str, key: str, *, since_clear: int) -> list[Outcome]:
    """The outcomes kept at ``key``; none when the task wrote none since the run was planned.

    Args:
        s3: a boto3 client.
        bucket: the archive bucket.
        key: see :func:`include.archive.keys.outcomes_key`.
        since_clear: the plan's clear number; older outcomes belong to a run that was since planned again.
    """
    document = get_json(s3, bucket, key)
    return [] if document is None or document["clear_number"] < since_clear else _parse(document)


def _parse(document: dict[str, Any]) -> list[Outcome]:
    return [Outcome(**{**item, "outcome": Result(item["outcome"])}) for item in document["outcomes"]]
