"""Texts of others made fit for a database, a log, an alert and a terminal."""

from __future__ import annotations

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

    Returns:
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
