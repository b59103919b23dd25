"""How an answer reaches the caller: as it is, changed, late, slowly, or not in full.

Cutting a connection is not in ASGI, so it uses the transport that uvicorn's `send` belongs to.
tests/integration/test_partner_stubs.py holds this over real sockets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from starlette.types import Receive, Send

from local.partners.document import Rule
from local.partners.partner import JSON, Answer, reason

End = Literal["answered", "cut before", "cut mid", "client left", "failed"]

# A shorter wait is slept through: watching for the caller's departure costs a task for every call.
WATCHED_WAIT_S = 1.0
BODILESS = frozenset({204, 304})


def altered(answer: Answer, rule: Rule) -> Answer:
    """Return `answer` with what `rule` replaces; an error status without a body gets a JSON error."""
    status = answer.status if rule.status is None else rule.status
    body, content_type = rule.content(), rule.content_type
    if body is None and rule.status is not None and rule.status >= 400:
        message = "answered by a control rule of the partner stubs"
        body = json.dumps({"error": reason(rule.status), "message": message}).encode()
        content_type = content_type or JSON
    replaced = {name.lower() for name in rule.headers}
    kept = tuple(header for header in answer.headers if header[0].lower() not in replaced)
    return replace(
        answer,
        status=status,
        body=answer.body if body is None else body,
        content_type=content_type or answer.content_type,
        headers=(*kept, *rule.headers.items()),
    )


async def deliver(
    answer: Answer, rule: Rule | None, delay_s: float, receive: Receive, send: Send
) -> tuple[int | None, End]:
    """Wait `delay_s` seconds and send `answer` as `rule` says; return the status sent, if any, and the end.

    Raises RuntimeError if a connection is to be cut under another server than uvicorn.
    """
    if delay_s and not await _wait(delay_s, receive):
        return None, "client left"
    if rule is not None and rule.cut == "before":
        await _cut(receive, send)
        return None, "cut before"
    body = b"" if answer.status in BODILESS else answer.body
    headers = [(name.encode(), value.encode()) for name, value in _headers(answer)]
    if answer.status not in BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if rule is not None and rule.cut == "mid":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await _cut(receive, send)
        return answer.status, "cut mid"
    if rule is not None and rule.drip_ms is not None:
        for position in range(len(body)):
            await send({"type": "http.response.body", "body": body[position : position + 1], "more_body": True})
            if not await _wait(rule.drip_ms / 1000, receive, watched=True):
                return answer.status, "client left"
        body = b""
    await send({"type": "http.response.body", "body": body})
    return answer.status, "answered"


def _headers(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "content-type", answer.content_type
    yield from answer.headers


async def _wait(seconds: float, receive: Receive, *, watched: bool = False) -> bool:
    """Wait without blocking other calls; return False as soon as a watched caller has hung up."""
    if seconds < WATCHED_WAIT_S and not watched:
        await asyncio.sleep(seconds)
        return True
    hung_up = asyncio.create_task(_until_closed(receive))
    try:
        done, _ = await asyncio.wait({hung_up}, timeout=seconds)
        return not done
    finally:
        hung_up.cancel()


async def _until_closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(receive: Receive, send: Send) -> None:
    """Close the caller's connection after what was sent, and wait until the server has noticed."""
    close = getattr(getattr(getattr(send, "__self__", None), "transport", None), "close", None)
    if close is None:
        raise RuntimeError("a connection can be cut under uvicorn only; run the stubs as local.partners.app says")
    close()
    # Until then uvicorn would take the missing rest for a programming error and answer 500.
    await _until_closed(receive)
