"""What counts as an answer worth keeping (spec: archive, Valid answers)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from include.errors import InvalidAnswerError


@dataclass(frozen=True)
class Answer:
    """A valid answer of the DEX API.

    Args:
        body: the response body, byte for byte.
        sha256: hex digest of the body.
        empty: the JSON document is ``[]`` or ``{}``.
    """

    body: bytes = field(repr=False)
    sha256: str
    empty: bool


def read_answer(body: bytes) -> Answer:
    """Check that ``body`` is a JSON document (RFC 8259, UTF-8) other than ``null``.

    Raises:
        InvalidAnswerError: empty body, invalid JSON, or ``null``. The message never quotes the body.
    """
    if not body.strip():
        raise InvalidAnswerError("DEX API answered 200 with an empty body; nothing was archived")
    try:
        # Integers are left as text: their size is the partner's business, and Python limits their digits.
        # A byte order mark is no part of JSON, but a parser may ignore it (RFC 8259, 8.1). It stays in the archive.
        document = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=str)
    except UnicodeDecodeError as error:
        raise InvalidAnswerError("DEX API answered 200 with a body that is not UTF-8") from error
    except RecursionError as error:
        raise InvalidAnswerError("DEX API answered 200 with JSON nested too deep to check") from error
    except ValueError as error:
        kind = "HTML" if body.lstrip()[:1] == b"<" else "invalid JSON"
        raise InvalidAnswerError(f"DEX API answered 200 with {kind}; nothing was archived") from error
    if document is None:
        raise InvalidAnswerError("DEX API answered 200 with null; nothing was archived")
    return Answer(body, hashlib.sha256(body).hexdigest(), empty=document in ([], {}))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
