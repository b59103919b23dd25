"""How a line becomes a record of the API (spec: ingest, Records)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from include.ingest.json_text import is_json

# Reads a value to its end without building it: a long line costs no memory, and numbers keep every digit.
_PARSER = msgspec.json.Decoder(msgspec.Raw)


_ESCAPED_IN_TWO = b'"\\\b\t\n\f\r'
_ESCAPED_IN_SIX = bytes(set(range(0x20)) - set(_ESCAPED_IN_TWO))


def most_bytes(texts: bytes) -> int:
    """The most bytes that lines may have as records, but for some forty of each: control characters become six.

    Args:
        texts: lines, trimmed, one after another.
    """
    in_two = len(texts) - len(texts.translate(None, _ESCAPED_IN_TWO))
    in_six = len(texts) - len(texts.translate(None, _ESCAPED_IN_SIX))
    return len(texts) + in_two + 5 * in_six


def records(texts: Sequence[bytes], first: int) -> Sequence[bytes]:
    """Records as JSON, see :func:`record`.

    Args:
        texts: consecutive lines.
        first: number of the first one.
    """
    try:
        # In most batches every line is JSON: to find that out takes half as long without a call of ours for each.
        deque(map(_PARSER.decode, texts), maxlen=0)
    except (msgspec.DecodeError, RecursionError):
        return [record(text, number) for number, text in enumerate(texts, first)]
    return texts


def record(text: bytes, number: int) -> bytes:
    """One record as JSON.

    Args:
        text: a line, trimmed, valid UTF-8, not empty.
        number: of the line among the non-blank lines of the whole file, from 1.

    Returns:
        ``text`` itself, byte for byte, if it is valid JSON; otherwise an object that holds it as a string.
    """
    try:
        _PARSER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # The parser refuses deep nesting and lone surrogates, which are valid.
        if not is_json(text):
            return msgspec.json.encode({"data": text.decode(), "lineNumber": number})
    return text
