"""The document behind `PUT /control`: what partners are told to do wrong, checked field by field.

The fields are described in `app`. Unknown fields are refused, and so are paths and parameters that no
partner has, as a rule with a typing error would otherwise never apply and a test would pass for nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from local.partners.partner import under
from local.sample import BROKEN_CLIENT_ID

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
