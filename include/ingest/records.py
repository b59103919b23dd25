"""How a line becomes a record of the API (spec: ingest, Records)."""

from __future__ import annotations

import msgspec

from include.ingest.json_text import is_json

# Reads a value to its end without building it: a long line costs no memory, and numbers keep every digit.
_PARSER = msgspec.json.Decoder(msgspec.Raw)


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
