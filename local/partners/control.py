"""The control document: what partners are told to do wrong, checked as a whole and applied call by call.

Its fields are described in `app`. Unknown fields are refused, and so are paths and parameters that no partner has, as a
rule with a typing error would otherwise never apply and a test would pass for nothing. A rule is for calls by path and
values, then by count or by share, the same in every run. What it does to a response includes cutting the connection,
which is not in ASGI: it uses the transport that uvicorn's `send` belongs to (tests/integration/test_partner_stubs.py
holds this over real sockets).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from starlette.types import Receive, Send

from local.partners.calls import JSON, Answer, reason, under
from local.sample.client_database import BROKEN_CLIENT_ID

MAX_LATENCY_MS = 600_000
FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})
EFFECTS = frozenset(
    {
        "latency_ms",
        "status",
        "body",
        "body_base64",
        "content_type",
        "headers",
        "cut",
        "drip_ms",
        "expire_tokens",
    }
)


def _as_texts(value: Any) -> Any:
    """Let `1001`, `"1001"` and `[1001, "1002"]` all mean a list of texts, as they travel in a query."""
    values = value if isinstance(value, list) else [value]
    return [str(each) if isinstance(each, int) and not isinstance(each, bool) else each for each in values]


class Rule(BaseModel):
    """One fault: which calls it is for, and what happens to them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str = "/"
    match: dict[str, Annotated[list[str], BeforeValidator(_as_texts), Field(min_length=1)]] = {}
    after: int = Field(default=0, ge=0)
    count: int | None = Field(default=None, ge=1)
    count_each: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, ge=0, le=1)
    seed: int = 0
    contains: str | None = Field(default=None, min_length=1)

    latency_ms: float | None = Field(default=None, ge=0, le=MAX_LATENCY_MS)
    status: int | None = Field(default=None, ge=200, le=599)
    body: str | None = None
    body_base64: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}
    cut: Literal["before", "mid"] | None = None
    drip_ms: float | None = Field(default=None, gt=0, le=60_000)
    expire_tokens: bool = False
    applied: bool = False

    @field_validator("path")
    @classmethod
    def _served(cls, path: str, info: ValidationInfo) -> str:
        served: Collection[str] = (info.context or {}).get("paths", ())
        if served and not any(under(path, known) or under(known, path) for known in served):
            raise ValueError(f"no partner serves it; allowed: / or the start of one of {', '.join(sorted(served))}")
        return path

    @field_validator("match")
    @classmethod
    def _declared(cls, match: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        declared: Collection[str] = (info.context or {}).get("parameters", ())
        if declared and (unknown := sorted(set(match) - set(declared))):
            raise ValueError(f"no partner takes {', '.join(unknown)}; allowed: {', '.join(sorted(declared))}")
        return match

    @field_validator("body_base64")
    @classmethod
    def _decodable(cls, text: str | None) -> str | None:
        try:
            base64.b64decode(text or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64 ({error})") from None
        return text

    @field_validator("content_type")
    @classmethod
    def _one_line(cls, text: str | None) -> str | None:
        if text is not None and not (text.isascii() and text.isprintable()):
            raise ValueError("must be printable ASCII on one line")
        return text

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() in FRAMING_HEADERS:
                raise ValueError(f"{name} is set by the server; to break the framing use cut")
            token = name.replace("-", "").replace("_", "")
            if not (token.isascii() and token.isalnum() and value.isascii() and (value.isprintable() or not value)):
                raise ValueError(f"{name!r}: names and values must be printable ASCII on one line")
        return headers

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(limit is not None for limit in (self.count, self.count_each, self.share)) > 1:
            raise ValueError("use one of count, count_each and share, not several")
        if self.body is not None and self.body_base64 is not None:
            raise ValueError("use one of body and body_base64, not both")
        if self.cut is not None and self.drip_ms is not None:
            raise ValueError("use one of cut and drip_ms, not both")
        if self.applied and not self.fails:
            raise ValueError("applied says that a call that fails had its effect all the same; give status or cut too")
        if not (self.model_fields_set & EFFECTS):
            raise ValueError(f"has no effect; give at least one of {', '.join(sorted(EFFECTS))}")
        return self

    @property
    def fails(self) -> bool:
        """The call fails, as its caller sees it."""
        return self.cut is not None or (self.status is not None and not 200 <= self.status < 300)

    def content(self) -> bytes | None:
        """Return the body that replaces the partner's own, None if the rule leaves it."""
        if self.body_base64 is not None:
            return base64.b64decode(self.body_base64)
        return None if self.body is None else self.body.encode()


class ControlDocument(BaseModel):
    """Everything that `PUT /control` sets; what it leaves out takes the default given here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rules: tuple[Rule, ...] = Field(default=(), strict=False)
    latency_ms: float = Field(default=0, ge=0, le=MAX_LATENCY_MS)
    token_expires_in: int = Field(default=3600, ge=1, le=86_400)
    revision: int = Field(default=0, ge=0)


def default_document() -> ControlDocument:
    """Return what holds at start and after `DELETE /control`.

    One sample client's answer is broken the way gateways break answers (status 200 and an HTML page), so
    that a failure and its alert are seen in a demonstration.
    """
    page = "<!DOCTYPE html>\n<html><body><h1>Scheduled maintenance</h1><p>Please come back.</p></body></html>\n"
    broken = Rule(
        path="/data-exchange/trigger",
        match={"clientId": [str(BROKEN_CLIENT_ID)]},
        status=200,
        content_type="text/html; charset=utf-8",
        body=page,
    )
    return ControlDocument(rules=(broken,))


class ActiveRule:
    """A rule in force, with the calls it has met so far."""

    __slots__ = ("_each", "_met", "index", "rule")

    def __init__(self, index: int, rule: Rule) -> None:
        self.index = index
        self.rule = rule
        self._met = 0
        self._each: Counter[str] = Counter()

    def takes(self, path: str, query: Mapping[str, str], body: bytes = b"") -> bool:
        """Count the call if path and values match, and tell whether the rule applies to it.

        A question is a path with its values. The draw for `share` depends on the question and on how often
        it was asked, not on the order of different questions: concurrent callers see the same faults in
        every run, and a retry is drawn anew.
        """
        rule = self.rule
        if not under(path, rule.path):
            return False
        if any(query.get(name) not in wanted for name, wanted in rule.match.items()):
            return False
        if rule.contains is not None and rule.contains.encode() not in body:
            return False
        self._met += 1
        if self._met <= rule.after:
            return False
        if rule.count is not None:
            return self._met <= rule.after + rule.count
        if rule.count_each is None and rule.share is None:
            return True
        question = f"{path}?{sorted(query.items())}"
        self._each[question] += 1
        attempt = self._each[question]
        if rule.count_each is not None:
            return attempt <= rule.count_each
        digest = blake2b(f"{rule.seed}:{attempt}:{question}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < (rule.share or 0) * 2**64


class InvalidControlError(ValueError):
    """A control document was refused; `problems` names each field and what is allowed there."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Control:
    """The document in force and, per rule, how often it was met.

    `paths` and `parameters` are what rules may name; whoever puts partners together fills them.
    """

    def __init__(self) -> None:
        self.paths: Collection[str] = frozenset()
        self.parameters: Collection[str] = frozenset()
        self._apply(default_document())

    def _apply(self, document: ControlDocument) -> None:
        self.document = document
        self._active = [ActiveRule(index, rule) for index, rule in enumerate(document.rules)]

    def replace(self, content: object) -> None:
        """Put `content` (parsed JSON) in force.

        Raises InvalidControlError if it is bad; then nothing changes.
        """
        try:
            known = {"paths": self.paths, "parameters": self.parameters}
            document = ControlDocument.model_validate(content, context=known)
        except ValidationError as error:
            raise InvalidControlError([_problem(each) for each in error.errors()]) from None
        self._apply(document)

    def reset(self) -> None:
        """Put the default document in force."""
        self._apply(default_document())

    def shown(self) -> dict[str, Any]:
        """Return the document in force as JSON content that can be put again."""
        content = self.document.model_dump(mode="json", exclude={"rules"})
        rules = [rule.model_dump(mode="json", exclude_unset=True) for rule in self.document.rules]
        return {"rules": rules, **content}

    def choose(self, path: str, query: Mapping[str, str], body: bytes = b"") -> ActiveRule | None:
        """Return the first rule that is for this call, or None; the call counts for every rule it met."""
        return next((active for active in self._active if active.takes(path, query, body)), None)


def _problem(error: Any) -> str:
    """Return one pydantic error as "field: what is wrong; what is allowed"."""
    location = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] != "extra_forbidden":
        return f"{location or 'document'}: {error['msg'].removeprefix('Value error, ')}"
    owner = Rule if location.startswith("rules[") else ControlDocument
    return f"{location}: unknown field; allowed: {', '.join(owner.model_fields)}"


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
    given = (("content-type", answer.content_type), *answer.headers)
    headers = [(name.encode(), value.encode()) for name, value in given]
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
