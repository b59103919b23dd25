r"""From a file's text to the API's records and request bodies: lines, JSON, batches (spec: call_details, Records).

Lines end at ``\n`` alone: a ``\r`` before it is white space and is trimmed; a bare ``\r``, U+2028, a vertical tab or a
form feed ends nothing. A byte order mark at the beginning of a line is dropped: exports that were joined have one in
mid-file. A line of nothing but white space is blank; white space is what ``str.strip()`` removes. A line that is JSON
by RFC 8259 is a record as it stands, any other is wrapped in an object.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import batched, chain
from typing import Self

import msgspec

from include.call_details.content import UTF_8, exactly, read_text
from include.call_details.keys import idempotency_key
from include.call_details.models import Chunk, Plan
from include.errors import InvalidFileError
from include.text import is_strict_json

MAX_LINE_BYTES = 64 * 1024 * 1024

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""All that ``str.strip()`` takes off."""

_BYTE_ORDER_MARK = "\ufeff"
_ASCII_SPACE = WHITE_SPACE.encode("ascii", "ignore")
_BLANK_BYTES = bytes(set((WHITE_SPACE + _BYTE_ORDER_MARK).encode()) - {0x0A})
# A line of no other bytes may be blank. One character class, as alternatives would keep a stack of them.
_MAYBE_BLANK = re.compile(rb"\n([" + re.escape(_BLANK_BYTES) + rb"]*+)(?=\n)")

WINDOW_BYTES = 16 * 1024
"""Decoded at once, if they are not all ASCII: small, as most of a file is."""

_COUNT_INVALID = "call_details.count_invalid"

# Reads a value to its end without building it: a long line costs no memory, and numbers keep every digit.
_PARSER = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(rb"\\u[dD]")

_ESCAPED_IN_TWO = b'"\\\b\t\n\f\r'
_ESCAPED_IN_SIX = bytes(set(range(0x20)) - set(_ESCAPED_IN_TWO))


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole lines. They stay in the block that they came in: to copy them would take as long as to count them.

    Args:
        start: offset of the first byte in the file's text.
        block: bytes that the lines are among, from position ``begin``.
        end: position after the last byte: an end of a line; only the last line of a file may have none.
    """

    start: int
    block: bytes = field(repr=False)
    begin: int
    end: int

    @classmethod
    def of(cls, start: int, data: bytes) -> Self:
        """Lines that have a block of their own."""
        return cls(start, data, 0, len(data))

    @property
    def data(self) -> bytes:
        """The lines with their ends."""
        return self.block[self.begin : self.end]

    @property
    def stop(self) -> int:
        """Offset after the last byte."""
        return self.start + len(self)

    def __len__(self) -> int:
        return self.end - self.begin

    def parts(self, size: int) -> Iterator[Self]:
        """The same lines in pieces of about ``size`` bytes."""
        begin = self.begin
        while begin < self.end:
            end = self.block.find(b"\n", begin + size - 1, self.end) + 1 or self.end
            yield type(self)(self.start + begin - self.begin, self.block, begin, end)
            begin = end


def whole_lines(blocks: Iterable[bytes], *, start: int = 0, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Piece]:
    """Cut blocks, which are consecutive bytes cut anywhere, at ends of lines, so that no line is split.

    ``start`` is the offset of the first byte in the file's text; it begins a line. One of more than ``max_line_bytes``
    is an InvalidFileError before more of it is kept in memory.
    """
    waiting: list[bytes] = []
    length = 0
    for block in blocks:
        begin = 0
        end = block.rfind(b"\n") + 1
        if end and waiting:
            # The line that began in an earlier block, in a piece of its own.
            begin = block.find(b"\n") + 1
            line = Piece.of(start, b"".join([*waiting, block[:begin]]))
            _check(line, max_line_bytes)
            yield line
            start = line.stop
            waiting, length = [], 0
        if begin < end:
            piece = Piece(start, block, begin, end)
            _check(piece, max_line_bytes)
            yield piece
            start = piece.stop
        if end < len(block):
            waiting.append(block[end:])
            length += len(block) - end
            if length > max_line_bytes:
                raise _too_long(start, max_line_bytes)
    if waiting:
        yield Piece.of(start, b"".join(waiting))


def _check(piece: Piece, max_line_bytes: int) -> None:
    if len(piece) > max_line_bytes:
        position = piece.start
        for line in piece.data.split(b"\n"):
            if len(line) > max_line_bytes:
                raise _too_long(position, max_line_bytes)
            position += len(line) + 1


def _too_long(position: int, max_line_bytes: int) -> InvalidFileError:
    return InvalidFileError(f"the line that begins at byte {position:,} has more than {max_line_bytes:,} bytes")


def trimmed(line: bytes) -> bytes:
    """A line's text as valid UTF-8 without byte order mark or white space; U+FFFD stands where bytes were invalid."""
    if line.isascii():
        return line.strip(_ASCII_SPACE)
    return line.decode("utf-8", "replace").lstrip(_BYTE_ORDER_MARK).strip().encode()


def texts_of(piece: Piece) -> Iterable[bytes]:
    """The lines that are not blank, trimmed."""
    data = piece.data
    lines = data.split(b"\n")
    # Most pieces are ASCII; to find that out line by line would take as long as the rest.
    texts = [line.strip(_ASCII_SPACE) for line in lines] if data.isascii() else map(trimmed, lines)
    return filter(None, texts)


def count_records(piece: Piece) -> int:
    """How many lines are not blank."""
    block, begin, end = piece.block, piece.begin, piece.end
    first = block.find(b"\n", begin, end)
    if first < 0:
        return bool(trimmed(piece.data))
    last = block.rfind(b"\n", begin, end) + 1
    candidates = _MAYBE_BLANK.findall(block, first, last)
    # Without their bytes beyond ASCII hardly any is left to be looked at.
    blank = len(candidates) if b"".join(candidates).isascii() else sum(not trimmed(line) for line in candidates)
    beside = bool(trimmed(block[begin:first])) + bool(trimmed(block[last:end]))
    return block.count(b"\n", first + 1, last) - blank + beside


def count_invalid_bytes(piece: Piece, *, window_bytes: int = WINDOW_BYTES) -> int:
    """How many bytes are not valid UTF-8: those that U+FFFD stands for, which may be one for several."""
    _invalid.bytes = 0
    begin = piece.begin
    while begin < piece.end:
        end = min(begin + window_bytes, piece.end)
        window = piece.block[begin:end]
        if not window.isascii():
            # No character reaches beyond: it has a byte that leads, and up to three that continue.
            end += next((more for more, byte in enumerate(piece.block[end : end + 3]) if byte & 0xC0 != 0x80), 3)
            end = min(end, piece.end)
            piece.block[begin:end].decode("utf-8", _COUNT_INVALID)
        begin = end
    return _invalid.bytes


class _Invalid(threading.local):
    bytes = 0


def _count_invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _invalid.bytes += error.end - error.start
    return "", error.end


_invalid = _Invalid()
codecs.register_error(_COUNT_INVALID, _count_invalid)


def most_bytes(texts: bytes) -> int:
    """Most bytes that trimmed lines may have as records, but for some forty each; a control character becomes six."""
    in_two = len(texts) - len(texts.translate(None, _ESCAPED_IN_TWO))
    in_six = len(texts) - len(texts.translate(None, _ESCAPED_IN_SIX))
    return len(texts) + in_two + 5 * in_six


def records(texts: Sequence[bytes], first: int) -> Sequence[bytes]:
    """Records as JSON, see :func:`record`, of consecutive lines, of which the first has the number ``first``."""
    try:
        # In most batches every line is JSON: to find that out takes half as long without a call of ours for each.
        deque(map(_PARSER.decode, texts), maxlen=0)
    except (msgspec.DecodeError, RecursionError):
        return [record(text, number) for number, text in enumerate(texts, first)]
    return texts


def record(text: bytes, number: int) -> bytes:
    """A trimmed line of valid UTF-8 as JSON: itself, byte for byte, if it is that, else an object with it as a string.

    Lines are numbered from 1 through the non-blank ones of the whole file.
    """
    return text if is_json(text) else msgspec.json.encode({"data": text.decode(), "lineNumber": number})


def is_json(text: bytes) -> bool:
    """Whether a valid UTF-8 text is one JSON value by RFC 8259, with only JSON's own white space around it."""
    try:
        _PARSER.decode(text)
    except RecursionError:
        return is_strict_json(text)
    except msgspec.DecodeError:
        # The one other thing valid that this parser refuses is an escaped surrogate without its partner.
        return _SURROGATE.search(text) is not None and is_strict_json(text)
    return True


_SLICE_BYTES = 256 * 1024
"""Of text that is cut into lines at once: these stay in the processor's cache, and posting is not held up for long."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: the JSON document to post. Batches count from 0, records from 1, through the whole file."""

    number: int
    first_record: int
    count: int
    idempotency_key: str
    body: bytes = field(repr=False)


def timestamp(moment: datetime) -> str:
    """An aware time as the API takes it: ISO 8601 in UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_batches(
    blocks: Iterable[bytes], plan: Plan, chunk: Chunk, *, settled: Callable[[int], bool] = lambda number: False
) -> Iterator[Batch]:
    """Cut a chunk into its batches, holding one at a time.

    The same plan and chunk give the same bodies, byte for byte, so that a batch may be posted again. ``blocks`` are the
    stored object's bytes from ``chunk.start`` to ``chunk.stop``, cut anywhere; a batch whose number is settled is not
    made.

    Raises:
        InvalidFileError: the object is not the one that was planned.
        StorageUnavailableError: S3 sent less than the chunk.
    """
    checked = exactly(blocks, chunk.stop - chunk.start)
    own = plan.gzip or plan.encoding != UTF_8
    text = read_text(checked, key=plan.file.key, size=plan.size).blocks if own else checked
    texts = chain.from_iterable(map(texts_of, whole_lines(_slices(text), start=chunk.start)))
    seen = 0
    for number, group in enumerate(batched(texts, plan.records_per_batch), chunk.first_batch):
        first_record = chunk.first_record + seen
        seen += len(group)
        if settled(number):
            continue
        body = _body(group, first_record, plan.timestamp)
        yield Batch(number, first_record, len(group), idempotency_key(plan.file, number), body)
    if seen != chunk.records:
        raise InvalidFileError(f"chunk {chunk.index} has {seen:,} records instead of the {chunk.records:,} planned")


def _slices(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), _SLICE_BYTES):
            yield block[start : start + _SLICE_BYTES]


def _body(texts: Sequence[bytes], first_record: int, timestamp: str) -> bytes:
    # Joined from the records as they are: to parse and write them again would cost time, and digits of numbers.
    joined = b",".join(records(texts, first_record))
    return b'{"records":[%b],"timestamp":%b,"batchSize":%d}' % (joined, msgspec.json.encode(timestamp), len(texts))
