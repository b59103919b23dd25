"""A proxy in front of the emulator: AWS on a bad day, for whoever has the proxy's address.

It knows a request's service from its signature, and passes on path, headers and body as they came: ``Host`` is signed.
"""

import asyncio
import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local.processes.layout import LOOPBACK

Kind = Literal["busy", "error", "cut before", "error after", "cut after", "cut in the answer", "slow", "again"]
"""What becomes of a call. ``busy`` is the service's own throttle; only the first three leave a call without effect.
``again`` is SQS alone: messages in another order, and once more those that were received last."""

KINDS: Sequence[Kind] = ("busy", "error", "cut before", "error after", "cut after", "cut in the answer", "slow")
"""What may become of a call of any service."""

SLOW_SECONDS = 3.0

_BUSY = {
    "s3": (503, "SlowDown"),
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "sqs": (400, "RequestThrottled"),
    "sns": (400, "Throttling"),
    "secretsmanager": (400, "ThrottlingException"),
}
SERVICES = tuple(_BUSY)
_XML = {
    "s3": "<Error><Code>{code}</Code><Message>on purpose</Message></Error>",
    "sns": "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>on purpose</Message></Error>"
    "</ErrorResponse>",
}
_OF_THE_CONNECTION = ("Connection", "Keep-Alive", "Transfer-Encoding", "Expect", "Content-Length")


@dataclass(frozen=True)
class Weather:
    """What happens to a share of the calls of a service."""

    service: str
    kind: Kind
    share: float


class AwsProxy:
    """The proxy; another thread may change its ``weather``.

    Args:
        target: address of the emulator.
        port: of this machine, to listen on.
        seed: of which calls are spoilt.
    """

    def __init__(self, target: str, port: int, seed: object) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.weather: Sequence[Weather] = ()
        self.spoilt = Counter[tuple[str, str]]()
        self.calls = Counter[str]()
        self._target, self._port = target, port
        self._chance = random.Random(f"{seed} aws")
        self._received: dict[str, list[Any]] = {}

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Answer for a block."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        serving = asyncio.run_coroutine_threadsafe(self._serve(), loop).result(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(serving.aclose(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self) -> contextlib.AsyncExitStack:
        stack = contextlib.AsyncExitStack()
        # A connection a call: one that the emulator closes as it is used again is a fault that nobody ordered.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(),
        )
        await stack.enter_async_context(session)
        runner = web.ServerRunner(web.Server(partial(self._answer, session)), access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, LOOPBACK, self._port).start()
        return stack

    async def _answer(self, session: aiohttp.ClientSession, request: web.BaseRequest) -> web.StreamResponse:
        service = service_of(request.headers.get("Authorization", ""))
        self.calls[service] += 1
        try:
            body = await request.content.read()
        except ConnectionError:
            # The caller was killed.
            return web.Response()
        kind = self._drawn(service)
        if kind in ("busy", "error"):
            return _refusal(service, kind)
        if kind == "cut before":
            return _cut(request)
        if kind == "slow":
            await asyncio.sleep(self._chance.uniform(0.2, SLOW_SECONDS))
        try:
            answer = await self._passed_on(session, request, body)
        except aiohttp.ClientError:
            return _cut(request)
        if kind == "error after":
            return _refusal(service, kind)
        if kind == "cut after":
            return _cut(request)
        if kind == "cut in the answer" and answer.body and request.method != "HEAD":
            return await _half(request, answer)
        if kind == "again" and request.headers.get("X-Amz-Target", "").endswith(".ReceiveMessage"):
            answer.text = self._again(json.loads(body), json.loads(answer.text or "{}"))
        return answer

    def _drawn(self, service: str) -> Kind | None:
        for weather in self.weather:
            if weather.service == service and self._chance.random() < weather.share:
                self.spoilt[service, weather.kind] += 1
                return weather.kind
        return None

    async def _passed_on(self, session: aiohttp.ClientSession, request: web.BaseRequest, body: bytes) -> web.Response:
        url = URL(f"{self._target}{request.raw_path}", encoded=True)
        headers = _less(request.headers, *_OF_THE_CONNECTION)
        async with session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as found:
            content = await found.read()
            answered = _less(found.headers, *_OF_THE_CONNECTION)
            if request.method == "HEAD" and "Content-Length" in found.headers:
                answered["Content-Length"] = found.headers["Content-Length"]
            return web.Response(status=found.status, headers=answered, body=content)

    def _again(self, asked: dict[str, Any], found: dict[str, Any]) -> str:
        fresh, most = found.get("Messages", []), asked.get("MaxNumberOfMessages", 1)
        messages = [*fresh, *self._received.pop(asked["QueueUrl"], [])[: most - len(fresh)]]
        if fresh:
            self._received[asked["QueueUrl"]] = fresh
        self._chance.shuffle(messages)
        return json.dumps({**found, **({"Messages": messages} if messages else {})})


def service_of(authorization: str) -> str:
    """The service that a request is signed for; empty if it is not signed."""
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    return scope[3] if len(scope) > 3 else ""


def _less(headers: Any, *names: str) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in names:
        kept.popall(name, None)
    return kept


def _refusal(service: str, kind: str) -> web.Response:
    status, code = _BUSY[service] if kind == "busy" else (500, "InternalError")
    if service in _XML:
        return web.Response(status=status, content_type="text/xml", text=_XML[service].format(code=code))
    text = json.dumps({"__type": f"com.amazonaws#{code}", "message": "on purpose"})
    return web.Response(status=status, content_type="application/x-amz-json-1.0", text=text)


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
    assert isinstance(answer.body, bytes)
    started = web.StreamResponse(status=answer.status, headers=answer.headers)
    started.content_length = len(answer.body)
    await started.prepare(request)
    await started.write(answer.body[: len(answer.body) // 2])
    # What was written goes out before the end does.
    await asyncio.sleep(0)
    return _cut(request)
