"""The steps of a run once its orders are known: process a slice of them, account for all.

Give the orders of one task to Lambda B: several at once, each with an outcome of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from include.auction.alerts import DeliveryNotes
from include.auction.deadlines import LAST_ANSWER, LAST_ORDER, RunClock
from include.auction.keys import alerts_key, outcomes_key
from include.auction.models import OrderBook, Outcome, Result, Summary, account, read_book
from include.clients.s3 import split_place
from include.errors import (
    FunctionFailedError,
    InvalidAnswerError,
    OrdersFailedError,
    PipelineError,
    RetryableOrdersError,
    TransientError,
)
from include.mapped_work import OutcomeFile, Progress, Slice, read_outcomes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.lambda_function import FunctionClient

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 5.0
"""A killed task repeats at most what it did since its last save."""

REJECTED = "OrderRejectedError"
"""Error of Lambda B for an order that it rejects."""

INVALID = "InvalidOrderError"
"""Error of Lambda B for an order that it cannot judge; asked again it would say the same."""

TIME_UP = "the run's time was up; clear the task to process the order"
"""Reason of an order that nobody asked Lambda B about, or not to the end."""

_MAX_KEY_BYTES = 1024
"""S3 has no longer keys."""


@dataclass(frozen=True)
class OrderProcessor:
    """Processes orders of one run.

    Args:
        book: the run's orders.
        functions: invokes Lambda B.
        function_name: Lambda B.
        ledger: keeps outcomes for a retry and for the summary.
        concurrency: how many invocations run at once.
        clock: the run's; from :data:`~include.auction.deadlines.LAST_ORDER` on no order begins, after
            :data:`~include.auction.deadlines.LAST_ANSWER` no answer is waited for.
    """

    book: OrderBook
    functions: FunctionClient
    function_name: str
    ledger: OutcomeFile[Outcome]
    concurrency: int
    clock: RunClock

    def process(self, indexes: Iterable[int], *, resume: bool = True) -> list[Outcome]:
        """Give every order that no earlier attempt settled to Lambda B; one order's failure stops no other.

        Orders that are not settled when the run's time is up have failed for good: a retry would have no time either.

        Args:
            indexes: which orders.
            resume: False spares a request to S3 where no earlier attempt can have left anything.

        Returns:
            an outcome per index, in their order.

        Raises:
            StorageUnavailableError: the ledger cannot be read or written; a retry may work.
            StorageRefusedError: the same, and it will not.
        """
        wanted = list(indexes)
        earlier = self.ledger.resume() if resume else {}
        settled = {index: outcome for index, outcome in earlier.items() if not outcome.retryable}
        waiting = [index for index in wanted if index not in settled]
        if not waiting:
            return [settled[index] for index in wanted]
        pool = ThreadPoolExecutor(min(self.concurrency, len(waiting)))
        calls = [pool.submit(self._process_one, index) for index in waiting]
        try:
            while (left := self.clock.left(LAST_ANSWER)) > 0:
                if not wait(calls, timeout=min(SAVE_EVERY_SECONDS, left)).not_done:
                    break
                self._save(settled, calls)
        finally:
            # Not waited for: a task that must end has no time for invocations that are under way.
            pool.shutdown(wait=False, cancel_futures=True)
            self._save(settled, calls)
        if self.clock.left(LAST_ORDER) <= 0:
            known = {**earlier, **settled}
            late = [index for index in wanted if index not in settled or settled[index].retryable]
            settled.update({index: self._late(index, known.get(index)) for index in late})
            self.ledger.save(settled.values())
        return [settled[index] for index in wanted]

    def _save(self, settled: dict[int, Outcome], calls: Iterable[Future[Outcome | None]]) -> None:
        ended = [call.result() for call in calls if call.done() and not call.cancelled()]
        settled.update({outcome.index: outcome for outcome in ended if outcome is not None})
        self.ledger.save(settled.values())

    def _late(self, index: int, last: Outcome | None) -> Outcome:
        """The outcome of an order for which there is no more time; ``last`` is what came of an earlier attempt."""
        reason = TIME_UP if last is None else f"{last.reason}; {TIME_UP}"
        return Outcome(index, self.book.order_id(index), Result.ERRORED, reason=reason)

    def _process_one(self, index: int) -> Outcome | None:
        if self.clock.left(LAST_ORDER) <= 0:
            return None
        order_id = self.book.order_id(index)
        payload = self.book.payload(index)
        if payload is None:
            kind = type(self.book.orders[index]).__name__
            reason = f"{INVALID}: the order is not an object but {kind}; Lambda B was not asked"
            return Outcome(index, order_id, Result.ERRORED, reason=reason)
        try:
            answer = self.functions.invoke(self.function_name, payload)
            return Outcome(index, order_id, Result.ACCEPTED, key=_key_in(answer))
        except FunctionFailedError as error:
            result = Result.REJECTED if error.error_type == REJECTED else Result.ERRORED
            retryable = error.error_type not in (REJECTED, INVALID)
            return Outcome(index, order_id, result, reason=str(error), retryable=retryable)
        except PipelineError as error:
            retryable = isinstance(error, TransientError)
            reason = f"{type(error).__name__}: {error}"
            return Outcome(index, order_id, Result.ERRORED, reason=reason, retryable=retryable)
        except Exception as error:
            log.exception("unexpected failure of order %d", index)
            reason = f"unexpected {type(error).__name__}, see the log"
            return Outcome(index, order_id, Result.ERRORED, reason=reason, retryable=True)


def _key_in(answer: object) -> str:
    """The key under which Lambda B stored an order: its answer, or the field ``key`` of it.

    Raises:
        InvalidAnswerError: there is none, or it can be no key of S3.
    """
    key = answer.get("key") if isinstance(answer, dict) else answer
    if not isinstance(key, str) or not key:
        raise InvalidAnswerError("the answer to the order names no key under which it is stored")
    try:
        if len(key.encode()) <= _MAX_KEY_BYTES:
            return key
    except UnicodeEncodeError:
        # Half a surrogate pair; the error would quote the key.
        pass
    raise InvalidAnswerError(f"the answer to the order names a key that is no UTF-8 or over {_MAX_KEY_BYTES:,} bytes")


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
            clear_number: see :class:`~include.mapped_work.OutcomeFile`.
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
