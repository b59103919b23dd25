"""The steps of a run once its orders are known: process a slice of them, account for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from include.auction.book import OrderBook, read_book
from include.auction.keys import alerts_key, outcomes_key
from include.auction.notices import DeliveryNotes
from include.auction.outcomes import Outcome, Result
from include.auction.processor import OrderProcessor
from include.auction.summary import Summary, account
from include.auction.times import RunClock
from include.clients.s3 import split_place
from include.errors import OrdersFailedError, RetryableOrdersError
from include.outcomes import OutcomeFile, Progress, read_outcomes
from include.slices import Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.functions import FunctionClient

_SHOWN = 3
_READERS = 8


class AuctionRun:
    """One run: its orders and its papers in the bucket of the order results."""

    def __init__(self, s3: S3Client, place: str, book: OrderBook) -> None:
        self.book = book
        self._s3 = s3
        self._bucket, self._orders_at = split_place(place)

    @classmethod
    def at(cls, place: str, s3: S3Client) -> Self:
        """The run whose orders lie at ``place``.

        Args:
            place: ``s3://bucket/key`` of its orders.
            s3: a boto3 client.

        Raises:
            StorageUnavailableError: a retry may work.
            StorageRefusedError: the orders are gone, or S3 refused.
        """
        return cls(s3, place, read_book(s3, place))

    def process_slice(
        self,
        piece: Slice,
        functions: FunctionClient,
        function_name: str,
        *,
        clock: RunClock,
        concurrency: int,
        clear_number: int,
        resume: bool,
    ) -> list[Outcome]:
        """Process the orders of one slice and keep an outcome for each.

        Args:
            piece: a slice of the orders.
            functions: invokes Lambda B.
            function_name: Lambda B.
            clock: the run's; its time ends the work.
            concurrency: invocations at once.
            clear_number: see :class:`~include.outcomes.OutcomeFile`.
            resume: an earlier attempt may have left outcomes.

        Returns:
            an outcome per order.

        Raises:
            StorageUnavailableError: outcomes cannot be kept; a retry may work.
            StorageRefusedError: the same, and it will not.
        """
        key = outcomes_key(self._orders_at, piece.start)
        ledger = OutcomeFile(Outcome, self._s3, self._bucket, key, clear_number=clear_number)
        processor = OrderProcessor(self.book, functions, function_name, ledger, concurrency, clock)
        return processor.process(range(piece.start, piece.stop), resume=resume)

    def account(
        self,
        slices: Sequence[Slice],
        *,
        clear_number: int,
        planned_at: int,
        succeeded: Iterable[int],
        why_no_outcome: Callable[[int], str | None],
    ) -> Summary:
        """Account for every order.

        Args:
            slices: what the run's tasks were given.
            clear_number: how often the run has been cleared by now.
            planned_at: how often it had been when the slices were cut.
            succeeded: indexes of the slices whose tasks succeeded.
            why_no_outcome: what is known, by slice index, of a task that left no outcomes.

        Raises:
            StorageUnavailableError: a retry may work.
            StorageRefusedError: S3 refused.
        """
        progress = Progress(clear_number, planned_at, frozenset(succeeded))

        def read(index: int) -> list[Outcome]:
            key = outcomes_key(self._orders_at, slices[index].start)
            # The run's orders are fixed: one that was accepted is stored, whatever became of its task since.
            return read_outcomes(
                Outcome,
                self._s3,
                self._bucket,
                key,
                index=index,
                progress=progress,
                lasting=lambda outcome: not outcome.failed,
            )

        with ThreadPoolExecutor(_READERS) as readers:
            found = list(readers.map(read, range(len(slices))))
        return account(self.book, slices, found, why_no_outcome=why_no_outcome)

    def notes(self) -> DeliveryNotes:
        """Which of the run's alerts were delivered, as earlier summaries noted it."""
        return DeliveryNotes(self._s3, self._bucket, alerts_key(self._orders_at))


def raise_for_failures(outcomes: Sequence[Outcome]) -> None:
    """Turn orders that were not accepted into the one error of their task.

    Raises:
        RetryableOrdersError: a retry may mend at least one.
        OrdersFailedError: none.
    """
    failures = [outcome for outcome in outcomes if outcome.failed]
    if not failures:
        return
    # What broke before what was merely rejected: that is what somebody has to look at.
    failures.sort(key=lambda failure: failure.result is Result.REJECTED)
    shown = "; ".join(f"order {failure.index}: {failure.reason}" for failure in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    counted = ", ".join(
        f"{number} {result.value}"
        for result in Result
        if (number := sum(outcome.result is result for outcome in outcomes))
    )
    kind = RetryableOrdersError if any(failure.retryable for failure in failures) else OrdersFailedError
    raise kind(f"{counted} of {len(outcomes)} orders: {shown}{more}")
