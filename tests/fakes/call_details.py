"""The call-details API as an httpx transport: a login and answers that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx

from include.clients.tokens import Keys

POST_URL = "https://calls.test/api/batches"
LOGIN_URL = "https://calls.test/api/login"
ACCESS, SECRET = "pl4nted-access", "pl4nted-s3cret"
TOKEN = "t0k3n-planted"
KEYS = Keys(ACCESS, SECRET)

Reply = httpx.Response | Exception | Callable[[httpx.Request], Any]


class FakeTime:
    """A clock that stands until somebody sleeps, or a test moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once; the others get their turn."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class _Unread(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class FakeCallDetails(httpx.AsyncBaseTransport):
    """Answers as scripted and remembers the requests.

    Args:
        logins: replies of the login in turn; beyond them, fresh tokens.
        answers: replies by idempotency key, in turn; the last one stays. Other keys are accepted.
    """

    def __init__(self, *, logins: Iterable[Reply] = (), answers: dict[str, list[Reply]] | None = None) -> None:
        self._logins = list(logins)
        self.answers = answers or {}
        self.login_requests: list[httpx.Request] = []
        self.posted: list[httpx.Request] = []
        self.tokens: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.pause: Callable[[], Awaitable[None]] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        login = str(request.url) == LOGIN_URL
        self.in_flight += not login
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.pause is not None:
                await self.pause()
            reply = self._log_in(request) if login else self._take(request)
            if callable(reply):
                reply = reply(request)
                if isinstance(reply, Awaitable):
                    reply = await reply
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply.stream, httpx.ByteStream):
                # A response is read once; a scripted one may be given several times. From the network it comes unread.
                return httpx.Response(reply.status_code, headers=reply.headers, stream=_Unread(reply.content))
            return reply
        finally:
            self.in_flight -= not login

    @property
    def keys(self) -> Counter[str]:
        """How often each idempotency key was posted."""
        return Counter(request.headers["Idempotency-Key"] for request in self.posted)

    def _log_in(self, request: httpx.Request) -> Reply:
        self.login_requests.append(request)
        fresh = httpx.Response(200, json={"token": f"{TOKEN}-{len(self.login_requests)}"})
        return self._logins.pop(0) if self._logins else fresh

    def _take(self, request: httpx.Request) -> Reply:
        self.posted.append(request)
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        replies = self.answers.get(request.headers["Idempotency-Key"], [httpx.Response(200, json={})])
        return replies.pop(0) if len(replies) > 1 else replies[0]


def logged_in_as(request: httpx.Request) -> dict[str, Any]:
    """What a login sent."""
    content: dict[str, Any] = json.loads(request.content)
    return content
