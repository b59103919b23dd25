"""Texts of others made fit for a database, a log, an alert and a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, marks that break or reverse a line, halves of surrogate pairs, and what is no character.

PostgreSQL, SNS and SQS refuse some of them; UTF-8 has no halves of pairs.
"""

_BLANKS = re.compile(r"[ \t\r\n]+")


def printable(text: str) -> str:
    r"""The text, each unprintable character as a visible escape such as ``\x1b`` or ``\ud800``."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, limit: int) -> str:
    """The printable text on one line of at most ``limit`` characters; dots tell that it was cut."""
    # Cut first as well: what others wrote may have any length.
    line = printable(_BLANKS.sub(" ", text[: limit * 4]).strip())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def printable_values(document: Any) -> Any:
    """A JSON document, each text in it printable."""
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, Mapping):
        return {printable_values(name): printable_values(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [printable_values(each) for each in document]
    return document


def refuse_constant(name: str) -> None:
    """``parse_constant`` of a JSON decoder that takes no ``NaN`` or ``Infinity``, which Python's does."""
    raise ValueError(f"{name} is not JSON")


UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)
"""What reading a document of ours raises if another text, JSON or not, has been put in its place."""


def json_text(body: bytes, errors: str = "strict") -> str:
    """JSON in UTF-8, UTF-16 or UTF-32 as text; of UTF-8 with its byte order mark. ``errors`` as of ``bytes.decode``."""
    # Not documented, but what json.loads() reads bytes by; that would take halves of surrogate pairs as well.
    return body.decode(json.detect_encoding(body).removesuffix("-sig"), errors)


# Builds nothing but lists as it reads a value.
_CHECKER = json.JSONDecoder(object_pairs_hook=len, parse_float=len, parse_int=len, parse_constant=refuse_constant)
# Strings, so that brackets in them are passed over; one without an end reaches to the end of the text. Possessive
# (``*+``): what matched is never given back, so that no text takes more than linear time or keeps a stack.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_DEPTH = 500
"""Levels of nesting that every parser's stack has room for: Python 3.12 reads and writes some 1,490."""


def is_strict_json(text: bytes | bytearray) -> bool:
    """Whether a valid UTF-8 text is one JSON value by RFC 8259, however deep it is nested."""
    try:
        _CHECKER.decode(text.decode())
    except RecursionError:
        return _is_deep_json(text)
    except ValueError:
        return False
    return True


def _is_deep_json(text: bytes | bytearray) -> bool:
    """The same for nesting deeper than any parser's stack, in linear time: the text is checked in pieces.

    A piece is what lies between two multiples of ``_DEPTH``, with ``[]`` in place of what lies deeper.
    """
    pieces = [bytearray()]
    depth = position = 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth % _DEPTH == 0:
                pieces[-1] += text[position : token.start()] + b"[]"
                pieces.append(bytearray())
                position = token.start()
        elif token[0] in (b"]", b"}"):
            depth -= 1
            if depth < 0:
                return False
            if depth % _DEPTH == _DEPTH - 1:
                piece = pieces.pop() + text[position : token.end()]
                position = token.end()
                if not is_strict_json(piece):
                    return False
    return depth == 0 and is_strict_json(pieces[0] + text[position:])


def shallow_json(text: bytes) -> bytes:
    """JSON in UTF-8, with ``Infinity``, a number that JSON has not, for each value that lies deeper than 500 levels.

    So that Python reads it, and nesting that nobody can use costs what it is in and no more. In what is left out,
    nothing is noticed that is no JSON.
    """
    if text.count(b"[") + text.count(b"{") <= _DEPTH:
        return text
    kept = list[bytes]()
    depth = position = 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth == _DEPTH + 1:
                kept += [text[position : token.start()], b"Infinity"]
                # Until its end is found: what has none is no JSON.
                position = len(text)
        elif token[0] in (b"]", b"}"):
            if depth == _DEPTH + 1:
                position = token.end()
            depth -= 1
    return b"".join([*kept, text[position:]])


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_MOST_INDENTS = 40
"""Deeper nesting is legal, and would take the square of its size."""


def indented_json(text: str) -> str:
    """JSON with line breaks and indents; every value keeps each of its characters, which parsing it would not.

    What is not JSON comes out as somehow broken lines, never as an error.
    """
    lines: list[str] = [""]
    depth, opened = 0, False
    for piece in _JSON_TOKEN.findall(text):
        closing = piece in ("}", "]")
        depth = max(depth - closing, 0)
        if closing != opened:
            lines.append("  " * min(depth, _MOST_INDENTS))
        opened = piece in ("{", "[")
        depth += opened
        lines[-1] += ": " if piece == ":" else piece
        if piece == ",":
            lines.append("  " * min(depth, _MOST_INDENTS))
    return "\n".join(lines)


def array_texts(text: str, name: str) -> list[str] | None:
    """The elements of the array that a JSON object has as member ``name``, each as it is written, digit by digit.

    None if it has no such array. What is not JSON is not noticed.
    """
    found: list[str] = []
    depth, begin, recent = 0, -1, ("", "")
    for token in _JSON_TOKEN.finditer(text):
        piece = token[0]
        depth -= piece in ("}", "]")
        if begin < 0:
            if (depth, *recent, piece) == (1, f'"{name}"', ":", "["):
                begin = token.end()
        elif depth == 1 or (depth == 2 and piece == ","):
            if element := text[begin : token.start()].strip():
                found.append(element)
            begin = token.end()
            if depth == 1:
                return found
        depth += piece in ("{", "[")
        recent = (recent[1], piece)
    return None
