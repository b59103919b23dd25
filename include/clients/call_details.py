"""The call-details API: batches of records, posted under idempotency keys (spec: call_details, API and Retries)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from include.clients.connections import parse_url
from include.clients.http import Failure, HttpClient, OverHttp, Response, failure_of
from include.clients.tokens import Token, TokenCache
from include.errors import ApiUnavailableError, Backoff, NoResponseError, PausedError

POST_SECONDS = 60.0
"""Deadline of one whole exchange, connection to last byte (spec: call_details, API)."""

LONGEST_WAIT_SECONDS = Backoff.longest
"""Longest wait inside a task, whatever a ``Retry-After`` asks for: what takes longer is for a later try."""

_MAX_ANSWER_BYTES = 1024 * 1024
"""What is read of an answer, to use its connection again. Only its status is looked at."""

Gate = Callable[[], AbstractAsyncContextManager[object]]
"""Entered for each call: whoever may make only so many at once waits there."""


@dataclass(frozen=True)
class Delivery:
    """What became of one batch, without anything of what was sent or answered.

    Args:
        attempts: how often it was sent, the one after a new login not counted.
        status: of the last answer, if the batch was not accepted and there was one.
        error: why it was not accepted, on a short line.
        first_failed_at: when it first failed, if it did.
        retryable: the last failure says nothing about the batch: no answer, or one that a later call may not get.
    """

    accepted: bool
    attempts: int
    status: int | None = None
    error: str | None = None
    first_failed_at: datetime | None = None
    retryable: bool = False


class _Pace:
    """How many calls at once an API gets that has answered 429, or asked to wait: half as many as it had, then slowly
    more again. What was asked to wait goes first.

    Otherwise all that wait for a small quota would go for it together, and most would lose an attempt each time.
    """

    def __init__(self) -> None:
        self._most = math.inf
        self._turns = 0
        self._sent = 0
        self._accepted = 0
        self._halved = 0
        self._asked_to_wait = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def turn(self, *, again: bool) -> AsyncIterator[None]:
        """For a call that is about to be made."""
        while self._turns >= self._most or self.is_full(again=again):
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
        self._turns += 1
        try:
            yield
        finally:
            self._turns -= 1
            self._wake()

    def is_full(self, *, again: bool) -> bool:
        """Whether such a call may not be made now."""
        return self._sent >= self._most or (self._asked_to_wait > 0 and not again)

    @contextmanager
    def call(self) -> Iterator[Callable[[Response], None]]:
        """For one that is made; to be told its answer."""
        self._sent += 1
        halved = self._halved

        def answered(response: Response) -> None:
            if response.status < HTTPStatus.MULTIPLE_CHOICES:
                self._accepted += 1
                if self._accepted >= self._most:
                    self._most, self._accepted = self._most + 1, 0
            elif halved == self._halved and (
                response.status == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers
            ):
                # Those that were sent before say nothing about what there is now.
                self._most, self._accepted = max(1, self._sent // 2), 0
                self._halved += 1

        try:
            yield answered
        finally:
            self._sent -= 1

    @contextmanager
    def waiting(self, failure: Failure) -> Iterator[None]:
        """Until a call that failed so has been made again."""
        asked = bool(failure.retry_after)
        self._asked_to_wait += asked
        try:
            yield
        finally:
            self._asked_to_wait -= asked
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


class CallDetailsApi(OverHttp):
    """Use as ``async with CallDetailsApi(...) as api``: connections live for the block, the login for longer.

    An answer counts when it is complete. A 2xx is then an acceptance whatever its body says; one that breaks off is
    sent again, which does no harm under the same idempotency key.

    Args:
        url: absolute URL that batches are posted to.
        attempts: how often a batch is sent in all; ``backoff`` is the pause between two.
        seconds: deadline of one exchange.
        clock: monotonic seconds; ``now`` gives the time, aware.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenCache,
        *,
        attempts: int = 3,
        gate: Gate = nullcontext,
        http: HttpClient | None = None,
        backoff: Backoff | None = None,
        seconds: float = POST_SECONDS,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = parse_url(url)
        self._tokens = tokens
        self._attempts = attempts
        self._gate = gate
        self._http = http or HttpClient()
        self._backoff = backoff or Backoff()
        self._seconds = seconds
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._ask_again_at = 0.0
        self._accepted = False
        self.failed_attempts: dict[str, int] = {}
        """Of batches that were not accepted, by their idempotency keys."""
        self._pace = _Pace()

    @property
    def logins(self) -> int:
        """How often the login was called, by whomever shares it."""
        return self._tokens.logins

    async def post(self, body: bytes, idempotency_key: str) -> Delivery:
        """Post one batch, JSON, as often as it takes and is allowed.

        Raises:
            PausedError: the API, which has accepted some, asks to wait for longer than a task should; the batch may be
                sent again then.
            ApiUnavailableError: so it does, and has accepted none.
            PipelineError: of the login, see :meth:`TokenCache.token`; it says nothing about the batch.
        """
        attempt, first_failed_at = 1, None
        failure = await self._try(body, idempotency_key)
        while failure is not None:
            first_failed_at = first_failed_at or self._now()
            self.failed_attempts[idempotency_key] = attempt
            if failure.retry_after is not None:
                # A limit that one call is told of is a limit for all: they need not find out by failing.
                self._ask_again_at = max(self._ask_again_at, self._clock() + failure.retry_after)
                self._check_patience()
            if not failure.retryable or attempt >= self._attempts:
                return Delivery(
                    False, attempt, failure.status, failure.error, first_failed_at, retryable=failure.retryable
                )
            with self._pace.waiting(failure):
                await self._sleep(self._backoff.seconds(attempt, failure.retry_after))
                failure = await self._try(body, idempotency_key, again=True)
            attempt += 1
        self._accepted = True
        self.failed_attempts.pop(idempotency_key, None)
        return Delivery(True, attempt, first_failed_at=first_failed_at)

    def _check_patience(self) -> float:
        """Seconds to wait before the next call of all."""
        pause = self._ask_again_at - self._clock()
        if pause > LONGEST_WAIT_SECONDS:
            # Attempts would be spent, and batches buried, while the API has said that it takes none.
            kind = PausedError if self._accepted else ApiUnavailableError
            raise kind(f"the API asks to wait for {pause:.0f} s", retry_after=pause)
        return pause

    async def _try(self, body: bytes, idempotency_key: str, *, again: bool = False) -> Failure | None:
        """Send once, and once more with a new token if the first is refused."""
        answer = await self._tokens.call(lambda token: self._send(body, idempotency_key, token, again=again))
        return answer if isinstance(answer, Failure) else failure_of(answer, now=self._now())

    async def _send(self, body: bytes, idempotency_key: str, token: Token, *, again: bool) -> Response | Failure:
        headers = {
            "Authorization": f"Bearer {token.value}",
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
        }
        while True:
            while (pause := self._check_patience()) > 0:
                await self._sleep(pause)
            async with self._pace.turn(again=again), self._gate():
                # Another call may have been told to wait, or of too many, while this one waited for its turn.
                if self._ask_again_at > self._clock() or self._pace.is_full(again=again):
                    continue
                try:
                    with self._pace.call() as answered:
                        response = await self._http.exchange(
                            "POST",
                            self._url,
                            headers=headers,
                            body=body,
                            seconds=self._seconds,
                            max_bytes=_MAX_ANSWER_BYTES,
                        )
                        answered(response)
                        return response
                except NoResponseError as error:
                    return Failure(None, str(error), retryable=True)
