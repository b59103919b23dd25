"""Files of outcomes: the ledger that a mapped task's retry resumes from and that the run's summary is made of.

A run's work cut into the pieces that mapped tasks get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from include.clients.s3 import get_json, put_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Outcome(Protocol):
    """What became of one item of a task's work; a frozen dataclass of JSON values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def item(self) -> int:
        """Which item it was."""

    @property
    def failed(self) -> bool:
        """Whether the item failed."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The outcome whose fields are in ``document``."""


class OutcomeFile[T: Outcome]:
    """The outcomes of one mapped task, as one JSON object in S3.

    Args:
        kind: class of the outcomes.
        clear_number: how often the run was cleared. A retry finds outcomes of its own number and resumes; a task that
            was cleared finds an earlier number and does its work again.
    """

    def __init__(self, kind: type[T], s3: S3Client, bucket: str, key: str, *, clear_number: int) -> None:
        self._kind = kind
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._clear_number = clear_number

    def resume(self) -> dict[int, T]:
        """Outcomes that earlier attempts of this run left, by item."""
        document = get_json(self._s3, self._bucket, self._key)
        if document is None or document["clear_number"] != self._clear_number:
            return {}
        return {outcome.item: outcome for outcome in map(self._kind.from_document, document["outcomes"])}

    def save(self, outcomes: Iterable[T]) -> None:
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


def read_outcomes[T: Outcome](
    kind: type[T],
    s3: S3Client,
    bucket: str,
    key: str,
    *,
    index: int,
    progress: Progress,
    lasting: Callable[[T], bool] = lambda outcome: False,
) -> list[T]:
    """The outcomes that the task of a slice left, if they still tell the truth.

    A task that was cleared, and then died before its first save, leaves those of its earlier life. They are taken
    for true only when the task succeeded (it was not cleared) or when they name a failure themselves; those that no
    clearing undoes are always taken.

    Args:
        kind: class of the outcomes.
        s3: a boto3 client.
        bucket: the run's bucket.
        key: of the task's file.
        index: index of the slice.
        progress: how far the run's tasks have come.
        lasting: whether an outcome stays true whatever becomes of its task.
    """
    document = get_json(s3, bucket, key)
    if document is None:
        return []
    outcomes = [kind.from_document(item) for item in document["outcomes"]]
    of_this_plan = document["clear_number"] >= progress.planned_at
    current = document["clear_number"] == progress.clear_number or index in progress.succeeded
    if of_this_plan and (current or any(outcome.failed for outcome in outcomes)):
        return outcomes
    return [outcome for outcome in outcomes if lasting(outcome)]


@dataclass(frozen=True)
class Slice:
    """The work of one mapped task: positions ``start`` to ``stop`` (exclusive) of what the run has to do.

    Args:
        label: what the UI shows.
    """

    start: int
    stop: int
    label: str

    @property
    def size(self) -> int:
        """How many items."""
        return self.stop - self.start


def cut_bounds(count: int, *, max_tasks: int, per_task: int) -> list[tuple[int, int]]:
    """Start and stop of each of at most ``max_tasks`` pieces that cover ``count`` items, in order.

    Up to ``max_tasks`` items get a piece each. Beyond, they are grouped about ``per_task`` to a piece, or more where
    ``max_tasks`` would not do otherwise; sizes differ by at most one.
    """
    tasks = count if count <= max_tasks else min(max_tasks, -(-count // per_task))
    bounds = [index * count // tasks for index in range(tasks + 1)] if tasks else []
    return list(pairwise(bounds))
