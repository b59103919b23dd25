"""Give the orders of one task to Lambda B: several at once, each with an outcome of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.auction.book import OrderBook
from include.auction.outcomes import Outcome, Result
from include.errors import FunctionFailedError, InvalidAnswerError, PipelineError, TransientError

if TYPE_CHECKING:
    from include.clients.functions import FunctionClient
    from include.outcomes import OutcomeFile

SAVE_EVERY_SECONDS = 5.0
"""A killed task repeats at most what it did since its last save."""

REJECTED = "OrderRejectedError"
"""Error of Lambda B for an order that it rejects."""

INVALID = "InvalidOrderError"
"""Error of Lambda B for an order that it cannot judge; asked again it would say the same."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OrderProcessor:
    """Processes orders of one run.

    Args:
        book: the run's orders.
        functions: invokes Lambda B.
        function_name: Lambda B.
        ledger: keeps outcomes for a retry and for the summary.
        concurrency: how many invocations run at once.
    """

    book: OrderBook
    functions: FunctionClient
    function_name: str
    ledger: OutcomeFile[Outcome]
    concurrency: int

    def process(self, indexes: Iterable[int], *, resume: bool = True) -> list[Outcome]:
        """Give every order that no earlier attempt settled to Lambda B; one order's failure stops no other.

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
            while wait(calls, timeout=SAVE_EVERY_SECONDS).not_done:
                self._save(settled, calls)
        finally:
            # Not waited for: a task that is told to end has no time for invocations that are under way.
            pool.shutdown(wait=False, cancel_futures=True)
            self._save(settled, calls)
        return [settled[index] for index in wanted]

    def _save(self, settled: dict[int, Outcome], calls: Iterable[Future[Outcome]]) -> None:
        ended = [call.result() for call in calls if call.done() and not call.cancelled()]
        settled.update({outcome.index: outcome for outcome in ended})
        self.ledger.save(settled.values())

    def _process_one(self, index: int) -> Outcome:
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
        InvalidAnswerError: there is none.
    """
    key = answer.get("key") if isinstance(answer, dict) else answer
    if not isinstance(key, str) or not key:
        raise InvalidAnswerError("the answer to the order names no key under which it is stored")
    return key
