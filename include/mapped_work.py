"""A run's work, cut into slices for mapped tasks, and what became of each item: the archive's clients, the auction's
orders.

Each task keeps the outcomes of its slice in one file in S3, beside the run's plan. A retry resumes from it, and the
run's summary is made of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from include.clients.s3 import create_json, get_json, put_json
from include.concurrency import converted
from include.errors import RetryableFailuresError, WorkFailedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_OUTCOME = "no outcome: the task was killed, timed out or never ran; see its log"
"""Reason of an item whose task left nothing behind."""

SAVE_EVERY_SECONDS = 5.0
"""A killed task repeats at most what it did since its last save."""

_READERS = 8
_SHOWN = 3


@dataclass(frozen=True)
class Slice:
    """The work of one mapped task: positions ``start`` to ``stop`` (exclusive) of what the run has to do."""

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


class Outcome(Protocol):
    """What became of one item; a frozen dataclass of JSON values."""

    @property
    def item(self) -> int:
        """Which item: a client's id, an order's index."""

    @property
    def failed(self) -> bool:
        """Whether the item failed."""

    @property
    def reason(self) -> str | None:
        """Why it failed."""

    @property
    def retryable(self) -> bool:
        """Whether a retry may help."""


@dataclass(frozen=True)
class OutcomeFile[T: Outcome]:
    """The outcomes of one mapped task, as one JSON object in S3.

    Args:
        kind: class of the outcomes.
        clear_number: how often the run was cleared. A retry finds outcomes of its own number and resumes; a task that
            was cleared finds an earlier number and does its work again.
    """

    kind: type[T]
    s3: S3Client
    bucket: str
    key: str
    clear_number: int

    def resume(self) -> dict[int, T]:
        """Outcomes that earlier attempts of this run left, by item."""
        return self.left()[0]

    def left(self) -> tuple[dict[int, T], dict[int, T]]:
        """The same; and instead of them those that are of before the task was cleared."""
        clear_number, outcomes = self._read()
        by_item = {outcome.item: outcome for outcome in outcomes}
        return (by_item, {}) if clear_number == self.clear_number else ({}, by_item)

    def save(self, outcomes: Iterable[T]) -> None:
        """Replace the file by these outcomes."""
        put_json(self.s3, self.bucket, self.key, self._document(outcomes))

    def create(self, outcomes: Iterable[T]) -> None:
        """Write these outcomes, unless there is a file."""
        create_json(self.s3, self.bucket, self.key, self._document(outcomes))

    def current(self, *, planned_at: int, succeeded: bool, lasting: Callable[[T], bool]) -> list[T]:
        """The outcomes that hold now, for the run's summary; the arguments are those of :meth:`MappedWork.account`.

        A task that was cleared, and then died before its first save, leaves those of its earlier life. They hold only
        when the task succeeded (it was not cleared) or when they name a failure themselves.
        """
        clear_number, outcomes = self._read()
        current = clear_number == self.clear_number or succeeded or any(outcome.failed for outcome in outcomes)
        return outcomes if current and clear_number >= planned_at else list(filter(lasting, outcomes))

    def _document(self, outcomes: Iterable[T]) -> dict[str, Any]:
        return {"clear_number": self.clear_number, "outcomes": [vars(outcome) for outcome in outcomes]}

    def _read(self) -> tuple[int, list[T]]:
        document = get_json(self.s3, self.bucket, self.key)
        if document is None:
            return -1, []
        return document["clear_number"], [converted(item, self.kind) for item in document["outcomes"]]


@dataclass(frozen=True)
class MappedWork[T: Outcome]:
    """The slices of one run, which cover all items in order, and the outcomes that their tasks keep.

    The files are beside the run's plan; ``clear_number`` is as in :class:`OutcomeFile`.
    """

    kind: type[T]
    s3: S3Client
    bucket: str
    plan_key: str
    slices: Sequence[Slice]
    clear_number: int

    def file(self, piece: Slice) -> OutcomeFile[T]:
        """The outcomes of a slice's task."""
        key = outcomes_key(self.plan_key, piece.start)
        return OutcomeFile(self.kind, self.s3, self.bucket, key, self.clear_number)

    def account(
        self,
        items: Sequence[int],
        *,
        planned_at: int,
        succeeded: Iterable[int],
        why_no_outcome: Callable[[int], str | None],
        failure: Callable[[int, str], T],
        lasting: Callable[[T], bool] = lambda outcome: False,
    ) -> tuple[T, ...]:
        """An outcome per item, in their order; an item without one has failed.

        Args:
            items: what the run has to do, by position.
            planned_at: how often the run had been cleared when it was planned.
            succeeded: indexes of the slices whose tasks succeeded.
            why_no_outcome: what is known, by slice index, of a task that left some of its items without one.
            failure: makes the outcome of an item that has none, from item and reason.
            lasting: whether an outcome stays true whatever becomes of its task.
        """
        good = frozenset(succeeded)

        def read(index: int) -> list[T]:
            file = self.file(self.slices[index])
            return file.current(planned_at=planned_at, succeeded=index in good, lasting=lasting)

        with ThreadPoolExecutor(_READERS) as readers:
            found = list(readers.map(read, range(len(self.slices))))
        outcomes: list[T] = []
        for index, (piece, left) in enumerate(zip(self.slices, found, strict=True)):
            by_item = {outcome.item: outcome for outcome in left}
            wanted = items[piece.start : piece.stop]
            missing = any(item not in by_item for item in wanted)
            reason = (why_no_outcome(index) or NO_OUTCOME) if missing else ""
            outcomes += [by_item[item] if item in by_item else failure(item, reason) for item in wanted]
        return tuple(outcomes)


def outcomes_key(plan_key: str, first: int) -> str:
    """Key of the outcomes of the task whose slice begins at position ``first``, beside the run's plan."""
    return f"{plan_key.rpartition('/')[0]}/outcomes/{first:06d}.json"


def raise_for_failures(
    failures: Sequence[Outcome], headline: str, *, what: str, retry_after: float | None = None
) -> None:
    """Turn the failed items of a task, if there are any, into its one error, which names the first few.

    The headline is such as ``3 of 5 clients failed``, ``what`` an item, such as ``client``, and ``retry_after`` the
    seconds that a partner asked to wait.

    Raises:
        RetryableFailuresError: a retry may help at least one of them.
        WorkFailedError: it helps none.
    """
    if not failures:
        return
    shown = "; ".join(f"{what} {failure.item}: {failure.reason}" for failure in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    message = f"{headline}: {shown}{more}"
    if any(failure.retryable for failure in failures):
        raise RetryableFailuresError(message, retry_after=retry_after)
    raise WorkFailedError(message)
