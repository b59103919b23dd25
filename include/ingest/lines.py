r"""A file's bytes as lines (spec: ingest, Records).

Lines end at ``\n`` alone: a ``\r`` before it is white space and goes with the trimming, and a bare ``\r``, U+2028, a
vertical tab or a form feed ends nothing. A line that has nothing but white space is blank; white space is what Python's
``str.strip()`` takes off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from include.errors import InvalidFileError, StorageUnavailableError

MAX_LINE_BYTES = 64 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""All that ``str.strip()`` takes off."""

_ASCII_SPACE = WHITE_SPACE.encode("ascii", "ignore")
# A line of no other bytes than these may be blank. One character class, as alternatives would keep a stack of them.
_MAYBE_BLANK = re.compile(rb"\n[" + re.escape(bytes(set(WHITE_SPACE.encode()) - {0x0A})) + rb"]*+(?=\n)")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole lines.

    Args:
        start: offset of the first byte in the file's text.
        data: the lines with their ends; only the last line of a file may have none.
    """

    start: int
    data: bytes = field(repr=False)

    @property
    def stop(self) -> int:
        """Offset after the last byte."""
        return self.start + len(self.data)


def whole_lines(blocks: Iterable[bytes], *, start: int = 0, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Piece]:
    """Cut blocks at ends of lines, so that no line is split.

    The byte order mark at the beginning of a file belongs to no piece.

    Args:
        blocks: consecutive bytes, cut anywhere.
        start: offset of the first byte in the file's text; it begins a line.
        max_line_bytes: a longer line is refused before more of it is kept in memory.

    Raises:
        InvalidFileError: a line is too long.
    """
    waiting: list[bytes | memoryview] = []
    length = 0
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            piece = _piece(start, b"".join([*waiting, memoryview(block)[:end]]), max_line_bytes)
            start += length + end
            waiting, length = [], 0
            if piece.data:
                yield piece
        if end < len(block):
            waiting.append(block[end:])
            length += len(block) - end
            if length > max_line_bytes:
                raise _too_long(start, max_line_bytes)
    piece = _piece(start, b"".join(waiting), max_line_bytes)
    if piece.data:
        yield piece


def trimmed(line: bytes) -> bytes:
    """A line's text as valid UTF-8 without white space around it; U+FFFD stands where bytes were invalid."""
    if line.isascii():
        return line.strip(_ASCII_SPACE)
    return line.decode("utf-8", "replace").strip().encode()


def texts_of(piece: Piece) -> Iterable[bytes]:
    """The lines that are not blank, trimmed."""
    lines = piece.data.split(b"\n")
    # Most pieces are ASCII; to find that out line by line would take as long as the rest.
    texts = [line.strip(_ASCII_SPACE) for line in lines] if piece.data.isascii() else map(trimmed, lines)
    return filter(None, texts)


def count_records(piece: Piece) -> int:
    """How many lines are not blank."""
    framed = b"\n" + piece.data if piece.data.endswith(b"\n") else b"\n" + piece.data + b"\n"
    candidates = _MAYBE_BLANK.findall(framed)
    blank = len(candidates) if piece.data.isascii() else sum(not trimmed(line) for line in candidates)
    return framed.count(b"\n") - 1 - blank


def count_invalid_bytes(data: bytes) -> int:
    """How many bytes of whole lines are not valid UTF-8: those that U+FFFD stands for, which may be one for several."""
    if data.isascii():
        return 0
    try:
        data.decode()
    except UnicodeDecodeError:
        return len(data) - len(data.decode("utf-8", "ignore").encode())
    return 0


def exactly(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same blocks, once it is sure that they are all.

    Raises:
        StorageUnavailableError: they are not ``size`` bytes together.
    """
    seen = 0
    for block in blocks:
        seen += len(block)
        yield block
    if seen != size:
        raise StorageUnavailableError(f"S3 sent {seen:,} bytes of the file instead of {size:,}")


def _piece(start: int, data: bytes, max_line_bytes: int) -> Piece:
    if len(data) > max_line_bytes:
        position = start
        for line in data.split(b"\n"):
            if len(line) > max_line_bytes:
                raise _too_long(position, max_line_bytes)
            position += len(line) + 1
    if start == 0 and data.startswith(_BYTE_ORDER_MARK):
        return Piece(len(_BYTE_ORDER_MARK), data[len(_BYTE_ORDER_MARK) :])
    return Piece(start, data)


def _too_long(position: int, max_line_bytes: int) -> InvalidFileError:
    return InvalidFileError(f"the line that begins at byte {position:,} has more than {max_line_bytes:,} bytes")
