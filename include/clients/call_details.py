"""The call-details API: batches of records, posted under idempotency keys (spec: call_details, API and Retries)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self

import httpx

from include.clients.http import MAX_SECONDS, AiohttpTransport, Delivery, Failure, failure_of, retry_delay
from include.clients.tokens import Login, Token
from include.errors import ApiUnavailableError

POST_SECONDS = 60.0
"""Deadline of one whole exchange, connection to last byte (spec: call_details, API)."""

_MAX_ANSWER_BYTES = 1024 * 1024
"""What is read of an answer, to use its connection again. Only its status is looked at."""


Gate = Callable[[], AbstractAsyncContextManager[object]]
"""Entered for each call: whoever may make only so many at once waits there."""


class CallDetailsApi:
    """Use as ``async with CallDetailsApi(...) as api``: connections live for the block, the login for longer.

    An answer counts when it is complete. A 2xx is then an acceptance whatever its body says; one that breaks off is
    sent again, which does no harm under the same idempotency key.

    Args:
        url: absolute URL that batches are posted to.
        login: where tokens come from.
        attempts: how often a batch is sent in all.
        gate: see :data:`Gate`.
        transport: stands in for the network in tests.
        sleep: as ``asyncio.sleep``.
        clock: monotonic seconds.
        now: the time, aware.
    """

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        attempts: int = 3,
        gate: Gate = nullcontext,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = httpx.URL(url)
        self._login = login
        self._attempts = attempts
        self._gate = gate
        self._transport = transport
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._ask_again_at = 0.0

    async def __aenter__(self) -> Self:
        self._wire = self._transport or AiohttpTransport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()

    @property
    def logins(self) -> int:
        """How often the login was called, by whomever shares it."""
        return self._login.calls

    async def post(self, body: bytes, idempotency_key: str) -> Delivery:
        """Post one batch, as often as it takes and is allowed.

        Args:
            body: JSON, sent as it is.
            idempotency_key: the same for the same batch, always.

        Raises:
            ApiUnavailableError: the API asks to wait for longer than a task should; the batch may be sent again then.
            PipelineError: of the login, see :meth:`Login.token`; it says nothing about the batch.
        """
        first_failed_at = None
        attempt = 0
        while True:
            attempt += 1
            failure = await self._try(body, idempotency_key)
            if failure is None:
                return Delivery(True, attempt, first_failed_at=first_failed_at)
            first_failed_at = first_failed_at or self._now()
            if failure.retry_after is not None:
                # A limit that one call is told of is a limit for all: they need not find out by failing.
                self._ask_again_at = max(self._ask_again_at, self._clock() + failure.retry_after)
                self._check_patience()
            if not failure.retryable or attempt >= self._attempts:
                return Delivery(False, attempt, failure.status, failure.error, first_failed_at)
            await self._sleep(retry_delay(attempt, failure.retry_after))

    def _check_patience(self) -> float:
        """Seconds to wait before the next call of all."""
        pause = self._ask_again_at - self._clock()
        if pause > MAX_SECONDS:
            # Attempts would be spent, and batches buried, while the API has said that it takes none.
            raise ApiUnavailableError(f"the API asks to wait for {pause:.0f} s", retry_after=pause)
        return pause

    async def _try(self, body: bytes, idempotency_key: str) -> Failure | None:
        """Send once, and once more with a new token after a 401."""
        token = await self._login.token()
        failure = await self._send(body, idempotency_key, token)
        if failure is not None and failure.status == HTTPStatus.UNAUTHORIZED:
            newer = await self._login.token(refused=token)
            if newer is not token:
                token = newer
                failure = await self._send(body, idempotency_key, token)
        if failure is None:
            self._login.accepted(token)
        return failure

    async def _send(self, body: bytes, idempotency_key: str, token: Token) -> Failure | None:
        headers = {
            "Authorization": f"Bearer {token.value}",
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
            "Accept-Encoding": "identity",
        }
        while True:
            while (pause := self._check_patience()) > 0:
                await self._sleep(pause)
            async with self._gate():
                # Another call may have been told to wait while this one waited for its turn.
                if self._ask_again_at <= self._clock():
                    return await self._exchange(body, headers)

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> Failure | None:
        try:
            return await self._answer(httpx.Request("POST", self._url, content=body, headers=headers))
        except (TimeoutError, httpx.TimeoutException):
            return Failure(None, f"no answer within {POST_SECONDS:g} s", retryable=True)
        except httpx.TransportError as error:
            return Failure(None, f"connection failed: {type(error).__name__}", retryable=True)

    async def _answer(self, request: httpx.Request) -> Failure | None:
        async with asyncio.timeout(POST_SECONDS):
            # Without httpx's client around it, which costs as much as all the rest, and does nothing needed here.
            response = await self._wire.handle_async_request(request)
            try:
                read = 0
                async for piece in response.aiter_raw():
                    read += len(piece)
                    if read > _MAX_ANSWER_BYTES:
                        break
                return failure_of(response, now=self._now())
            finally:
                await response.aclose()
