"""The steps of a run once its orders are known: process a slice of them, account for all.

Errors of S3 are StorageUnavailableError where a retry may work and StorageRefusedError where it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from include.auction.alerts import DeliveryRecord
from include.auction.deadlines import LAST_ANSWER, LAST_ORDER, RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.keys import alerts_key
from include.auction.models import OrderOutcome, Orders, Result, Summary
from include.clients.s3 import split_place
from include.errors import OrdersFailedError, RetryableOrdersError
from include.mapped_work import SAVE_EVERY_SECONDS, MappedWork, OutcomeFile, Slice, raise_for_failures

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class AuctionRun:
    """One run: its orders and its working files in the bucket of the order results."""

    def __init__(self, s3: S3Client, uri: str, orders: Orders) -> None:
        self.orders = orders
        self._s3 = s3
        self._bucket, self._key = split_place(uri)

    @classmethod
    def load(cls, uri: str, s3: S3Client) -> Self:
        """The run whose orders are at ``uri``, ``s3://bucket/key``."""
        return cls(s3, uri, Orders.load(s3, uri))

    def process_slice(
        self,
        piece: Slice,
        function: OrderFunction,
        *,
        deadlines: RunDeadlines,
        concurrency: int,
        clear_number: int,
        resume: bool,
    ) -> list[OrderOutcome]:
        """Process the orders of one slice and save an outcome for each.

        Args:
            piece: a slice of the orders.
            function: Lambda B.
            deadlines: the run's.
            concurrency: invocations at once.
            clear_number: how often the run has been cleared by now.
            resume: an earlier attempt may have left outcomes.

        Returns:
            an outcome per order.
        """
        file = self._work([piece], clear_number).file(piece)
        processor = OrderProcessor(self.orders, function, file, concurrency, deadlines)
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
        """Account for every order; see :meth:`include.mapped_work.MappedWork.account`."""
        orders = self.orders
        outcomes = self._work(slices, clear_number).account(
            range(len(orders.items)),
            planned_at=planned_at,
            succeeded=succeeded,
            why_no_outcome=why_no_outcome,
            failure=lambda index, reason: OrderOutcome(index, orders.id_of(index), Result.ERRORED, reason=reason),
            # The run's orders are fixed: one that was accepted is stored, whatever became of its task since.
            lasting=lambda outcome: not outcome.failed,
        )
        return Summary(orders.run_id, orders.day, outcomes)

    def delivery_record(self) -> DeliveryRecord:
        """Which of the run's alerts earlier summaries delivered."""
        return DeliveryRecord(self._s3, self._bucket, alerts_key(self._key))

    def _work(self, slices: Sequence[Slice], clear_number: int) -> MappedWork[OrderOutcome]:
        return MappedWork(OrderOutcome, self._s3, self._bucket, self._key, slices, clear_number)


TIME_UP = "the run's time was up; clear the task to process the order"
"""Reason of an order that Lambda B was not given, or not to the end."""


@dataclass(frozen=True)
class OrderProcessor:
    """Gives orders of one run to Lambda B, several at once.

    Args:
        orders: the run's.
        function: Lambda B.
        file: keeps outcomes for a retry and for the summary.
        concurrency: how many invocations run at once.
        deadlines: the run's; from :data:`~include.auction.deadlines.LAST_ORDER` on no order begins, after
            :data:`~include.auction.deadlines.LAST_ANSWER` no answer is waited for.
        save_every: seconds.
    """

    orders: Orders
    function: OrderFunction
    file: OutcomeFile[OrderOutcome]
    concurrency: int
    deadlines: RunDeadlines
    save_every: float = SAVE_EVERY_SECONDS

    def process(self, indexes: Iterable[int], *, resume: bool = True) -> list[OrderOutcome]:
        """Give every order that no earlier attempt settled to Lambda B; one order's failure stops no other.

        Orders that are not settled when the run's time is up have failed for good: a retry would have no time either.

        Args:
            indexes: which orders.
            resume: False spares a request to S3 where no earlier attempt can have left anything.

        Returns:
            an outcome per index, in their order.
        """
        wanted = list(indexes)
        earlier = self.file.resume() if resume else {}
        settled = {index: outcome for index, outcome in earlier.items() if not outcome.retryable}
        waiting = [index for index in wanted if index not in settled]
        if not waiting:
            return [settled[index] for index in wanted]
        pool = ThreadPoolExecutor(min(self.concurrency, len(waiting)))
        calls = [pool.submit(self._process_one, index) for index in waiting]
        try:
            while (left := self.deadlines.left(LAST_ANSWER)) > 0:
                if not wait(calls, timeout=min(self.save_every, left)).not_done:
                    break
                self._save(settled, calls)
        finally:
            # Without blocking: a task that must end has no time for invocations that are under way.
            pool.shutdown(wait=False, cancel_futures=True)
            self._save(settled, calls)
        if self.deadlines.left(LAST_ORDER) <= 0:
            known = {**earlier, **settled}
            late = [index for index in wanted if index not in settled or settled[index].retryable]
            settled.update({index: self._late(index, known.get(index)) for index in late})
            self.file.save(settled.values())
        return [settled[index] for index in wanted]

    def _process_one(self, index: int) -> OrderOutcome | None:
        return self.function.process(self.orders, index) if self.deadlines.left(LAST_ORDER) > 0 else None

    def _save(self, settled: dict[int, OrderOutcome], calls: Iterable[Future[OrderOutcome | None]]) -> None:
        ended = [call.result() for call in calls if call.done() and not call.cancelled()]
        settled.update({outcome.index: outcome for outcome in ended if outcome is not None})
        self.file.save(settled.values())

    def _late(self, index: int, last: OrderOutcome | None) -> OrderOutcome:
        """The outcome of an order for which there is no more time; ``last`` is that of an earlier attempt."""
        reason = TIME_UP if last is None else f"{last.reason}; {TIME_UP}"
        return OrderOutcome(index, self.orders.id_of(index), Result.ERRORED, reason=reason)


def raise_for_orders(outcomes: Sequence[OrderOutcome]) -> None:
    """Turn orders that were not accepted into the one error of their task.

    Raises:
        RetryableOrdersError: for at least one, a retry may succeed.
        OrdersFailedError: for none.
    """
    counts = {result: sum(outcome.result is result for outcome in outcomes) for result in Result}
    counted = ", ".join(f"{number} {result.value}" for result, number in counts.items() if number)
    # What failed before what was merely rejected: that is what somebody has to look at.
    failures = sorted((each for each in outcomes if each.failed), key=lambda each: each.result is Result.REJECTED)
    headline = f"{counted} of {len(outcomes)} orders"
    raise_for_failures(failures, headline, what="order", retry=RetryableOrdersError, fail=OrdersFailedError)
