"""The steps of a run once its orders are known: hand them over to Lambda B, process a slice of them, account for all;
and what later runs finish of one that was cut off.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from datetime import date
from typing import TYPE_CHECKING, Self

from include.auction.alerts import DeliveryRecord
from include.auction.deadlines import GRACE, HANDOVER, LAST_ANSWER, LAST_ORDER, MAX_RESULTS, RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.keys import alerts_key, later_key, orders_key, runs_prefix, summaries_prefix, summary_key
from include.auction.models import OrderOutcome, Orders, Result, Summary
from include.clients.s3 import s3_errors, split_uri
from include.errors import PipelineError
from include.mapped_work import SAVE_EVERY_SECONDS, MappedWork, OutcomeFile, Slice, raise_for_failures

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

AT_ONCE = 40
"""Invocations of Lambda B by the trigger that found the orders; a state machine's Map has as many."""

_WRITERS = 8


class AuctionRun:
    """One run: its orders and its working files in the bucket of the order results."""

    def __init__(self, s3: S3Client, uri: str, orders: Orders) -> None:
        self.orders = orders
        self._s3 = s3
        self._bucket, self._key = split_uri(uri)

    @classmethod
    def load(cls, uri: str, s3: S3Client) -> Self:
        """The run whose orders are at ``uri``, ``s3://bucket/key``."""
        return cls(s3, uri, Orders.load(s3, uri))

    def process_slice(
        self, piece: Slice, function: OrderFunction, *, deadlines: RunDeadlines, concurrency: int, clear_number: int
    ) -> list[OrderOutcome]:
        """Process the orders of one slice by Lambda B, so many at once, and save and return an outcome for each."""
        file = self._work([piece], clear_number).file(piece)
        indexes = range(piece.start, piece.stop)
        return give(self.orders, indexes, function, file, concurrency=concurrency, deadlines=deadlines)

    def hand_over(
        self,
        slices: Sequence[Slice],
        function: OrderFunction,
        *,
        deadlines: RunDeadlines,
        clear_number: int,
        stop: threading.Event,
    ) -> None:
        """Give every order to Lambda B once, before the tasks of the slices start, which resume from its outcomes.

        An order for which a retry may succeed is left to its task, and so is what is not done in time. The outcomes of
        a slice are written only if there are none: who was taken for dead must not overwrite those of a task.

        Lambda B is invoked :data:`AT_ONCE` times at once; once ``stop`` is set, no further order begins.
        """
        work, end = self._work(slices, clear_number), deadlines.now() + HANDOVER

        def has_time() -> bool:
            return not stop.is_set() and deadlines.left(MAX_RESULTS) > 0 and deadlines.now() < end

        callers, writers = ThreadPoolExecutor(AT_ONCE), ThreadPoolExecutor(_WRITERS)
        calls = {
            callers.submit(function.process, self.orders, index, has_time=has_time): piece
            for piece in slices
            for index in range(piece.start, piece.stop)
        }
        waiting, settled, writes = Counter(calls.values()), dict[Slice, list[OrderOutcome]](), list[Future[None]]()
        try:
            for call in as_completed(calls, timeout=max(0.0, deadlines.left(MAX_RESULTS + GRACE))):
                piece, outcome = calls[call], call.result()
                waiting[piece] -= 1
                if outcome is not None and not outcome.retryable:
                    settled.setdefault(piece, []).append(outcome)
                if not waiting[piece] and piece in settled:
                    writes.append(writers.submit(self._create, work.file(piece), settled.pop(piece)))
        except TimeoutError:
            log.warning("Lambda B has not answered in time")
        # Without blocking: the tasks must have their time.
        callers.shutdown(wait=False, cancel_futures=True)
        writes += [writers.submit(self._create, work.file(piece), outcomes) for piece, outcomes in settled.items()]
        writers.shutdown(wait=False)
        wait(writes, timeout=max(1.0, deadlines.left(MAX_RESULTS + GRACE)))
        log.info("orders given to %s: %d; what is not settled is left to the mapped tasks", function.name, len(calls))

    def _create(self, file: OutcomeFile[OrderOutcome], outcomes: list[OrderOutcome]) -> None:
        try:
            file.create(outcomes)
        except PipelineError as error:
            log.warning("outcomes are not saved, their task repeats its orders: %s", error)

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

    def finish(
        self, slices: Sequence[Slice], function: OrderFunction, *, deadlines: RunDeadlines, concurrency: int
    ) -> Summary:
        """Do what the run left open when it ended without a summary.

        Gives every order that is not settled to Lambda B, once, and accounts for all. Outcomes are looked for in the
        slices that its tasks were given, as far as they are known. The deadlines are those of the run that does this.
        """
        work, orders = self._work(slices, 0), self.orders

        def read(piece: Slice) -> list[OrderOutcome]:
            return work.file(piece).current(planned_at=0, succeeded=True, lasting=bool)

        with ThreadPoolExecutor(_WRITERS) as readers:
            found = [outcome for left in readers.map(read, slices) for outcome in left]
        outcomes = {outcome.index: outcome for outcome in found if not outcome.retryable}
        file = OutcomeFile(OrderOutcome, self._s3, self._bucket, later_key(self._key), clear_number=0)
        left = [index for index in range(len(orders.items)) if index not in outcomes]
        given = give(orders, left, function, file, concurrency=concurrency, deadlines=deadlines)
        outcomes |= {outcome.index: outcome for outcome in given}
        return Summary(orders.run_id, orders.day, tuple(outcomes[index] for index in range(len(orders.items))))

    def delivery_record(self) -> DeliveryRecord:
        """Which of the run's alerts earlier summaries delivered."""
        return DeliveryRecord(self._s3, self._bucket, alerts_key(self._key))

    def _work(self, slices: Sequence[Slice], clear_number: int) -> MappedWork[OrderOutcome]:
        return MappedWork(OrderOutcome, self._s3, self._bucket, self._key, slices, clear_number)


def unfinished_runs(s3: S3Client, bucket: str, days: Iterable[date]) -> dict[str, str]:
    """URIs of the orders of these days' runs that have no summary, by run id: under way, or ended without one."""
    found, pages = {}, s3.get_paginator("list_objects_v2").paginate
    for day in days:
        with s3_errors(f"list s3://{bucket}/{runs_prefix(day)}"):
            runs = [
                run
                for page in pages(Bucket=bucket, Prefix=runs_prefix(day), Delimiter="/")
                for run in page.get("CommonPrefixes", ())
            ]
            summaries = pages(Bucket=bucket, Prefix=summaries_prefix(day))
            summarized = {entry["Key"] for page in summaries for entry in page.get("Contents", ())}
        for run in runs:
            run_id = run["Prefix"].removeprefix(runs_prefix(day)).removesuffix("/")
            if summary_key(day, run_id) not in summarized:
                found[run_id] = f"s3://{bucket}/{orders_key(day, run_id)}"
    return found


TIME_UP = "the run's time was up; clear the task to process the order"
"""Reason of an order that Lambda B was not given, or not to the end."""


def give(
    orders: Orders,
    indexes: Iterable[int],
    function: OrderFunction,
    file: OutcomeFile[OrderOutcome],
    *,
    concurrency: int,
    deadlines: RunDeadlines,
    save_every: float = SAVE_EVERY_SECONDS,
) -> list[OrderOutcome]:
    """Give each order that is not settled yet to Lambda B, several at once; an outcome per index, in their order.

    Outcomes are kept for a retry and for the summary. From :data:`~include.auction.deadlines.LAST_ORDER` on no order
    begins, after :data:`~include.auction.deadlines.LAST_ANSWER` no answer is waited for. Orders that are not settled
    when the run's time is up have failed for good: a retry would have no time either. After a clear all orders are
    given again; what was accepted before stays so.
    """

    def has_time() -> bool:
        return deadlines.left(LAST_ORDER) > 0

    def save() -> None:
        ended = [call.result() for call in calls if call.done() and not call.cancelled()]
        settled.update({outcome.index: outcome for outcome in ended if outcome is not None} | stored)
        file.save(settled.values())

    wanted = list(indexes)
    earlier, before_clear = file.left()
    # Whatever comes of it when it is given again.
    stored = {index: outcome for index, outcome in before_clear.items() if not outcome.failed}
    if earlier:
        log.info("orders that wait_for_results or an earlier attempt gave to Lambda B (see its log): %d", len(earlier))
    settled = {index: outcome for index, outcome in earlier.items() if not outcome.retryable}
    waiting = [index for index in wanted if index not in settled]
    if not waiting:
        return [settled[index] for index in wanted]
    pool = ThreadPoolExecutor(min(concurrency, len(waiting)))
    calls = [pool.submit(function.process, orders, index, has_time=has_time) for index in waiting]
    try:
        while (left := deadlines.left(LAST_ANSWER)) > 0:
            if not wait(calls, timeout=min(save_every, left)).not_done:
                break
            save()
    finally:
        # Without blocking: a task that must end has no time for invocations that are under way.
        pool.shutdown(wait=False, cancel_futures=True)
        save()
    if not has_time():
        for index in wanted:
            last = settled.get(index) or earlier.get(index)
            if last is None or last.retryable:
                reason = TIME_UP if last is None else f"{last.reason}; {TIME_UP}"
                settled[index] = OrderOutcome(index, orders.id_of(index), Result.ERRORED, reason=reason)
        file.save(settled.values())
    return [settled[index] for index in wanted]


def raise_for_orders(outcomes: Sequence[OrderOutcome]) -> None:
    """Turn orders that were not accepted into the one error of their task; see :func:`raise_for_failures`."""
    counts = {result: sum(outcome.result is result for outcome in outcomes) for result in Result}
    counted = ", ".join(f"{number} {result.value}" for result, number in counts.items() if number)
    # What failed before what was merely rejected: that is what somebody has to look at.
    failures = sorted((each for each in outcomes if each.failed), key=lambda each: each.result is Result.REJECTED)
    headline = f"{counted} of {len(outcomes)} orders"
    raise_for_failures(failures, headline, what="order")
