"""The call-details API: batches of records, posted under idempotency keys (spec: ingest, API and Retries)."""

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

from include.clients.backoff import MAX_SECONDS, retry_delay
from include.clients.delivery import Delivery, Failure, failure_of
from include.clients.lines import Lines
from include.clients.login import Login, Token

POST_SECONDS = 60.0
"""Deadline of one whole exchange, connection to last byte (spec: ingest, API)."""

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
        self._lines = Lines(timeout=POST_SECONDS, transport=self._transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lines.close()

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
            if not failure.retryable or attempt >= self._attempts:
                return Delivery(False, attempt, failure.status, failure.error, first_failed_at)
            if failure.retry_after is not None:
                # A limit that one call is told of is a limit for all: they need not find out by failing.
                pause = min(failure.retry_after, MAX_SECONDS)
                self._ask_again_at = max(self._ask_again_at, self._clock() + pause)
            await self._sleep(retry_delay(attempt, failure.retry_after))

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
            while (pause := self._ask_again_at - self._clock()) > 0:
                await self._sleep(pause)
            async with self._gate():
                # Another call may have been told to wait while this one waited for its turn.
                if self._ask_again_at <= self._clock():
                    return await self._exchange(body, headers)

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> Failure | None:
        try:
            with self._lines.line() as http:
                return await self._answer(http, body, headers)
        except (TimeoutError, httpx.TimeoutException):
            return Failure(None, f"no answer within {POST_SECONDS:g} s", retryable=True)
        except httpx.TransportError as error:
            return Failure(None, f"connection failed: {type(error).__name__}", retryable=True)

    async def _answer(self, http: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> Failure | None:
        async with (
            asyncio.timeout(POST_SECONDS),
            http.stream("POST", self._url, content=body, headers=headers) as response,
        ):
            read = 0
            async for piece in response.aiter_raw():
                read += len(piece)
                if read > _MAX_ANSWER_BYTES:
                    break
            return failure_of(response, now=self._now())
