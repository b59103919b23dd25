"""From an object's bytes to a file's text: recognised by its content, whatever its name (spec: call_details, Records).

Text is UTF-8, or UTF-16 with its byte order mark; either may be compressed with gzip. Any other content is refused, as
its bytes would be posted as lines of garbage.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from include.errors import InvalidFileError, StorageUnavailableError

UTF_8 = "utf-8"

MAX_RATIO = 100
"""Times as many bytes as a gzip file has may its text have."""

ALWAYS_ALLOWED = 64 * 1024 * 1024
"""Bytes that any gzip file may expand to: a few lines that are alike exceed :data:`MAX_RATIO`."""

# zlib's largest window, and a gzip header.
_GZIP = zlib.MAX_WBITS | 16
# Output at once. Input at once: what is left of it is copied whenever a member ends, and members may be tiny.
_TEXT_STEP = 1024 * 1024
_STEP = 32 * 1024

STRAY_NULS = 8
STRAY_NULS_PER_THOUSAND = 1
"""NUL bytes that a text may have: so many, or so many of a thousand bytes. Binary files have one of 256, or more."""

_GZIP_MAGIC = b"\x1f\x8b"
_ENCODINGS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

# Beginnings that no text has. Text may well begin with "BZh" or "PARE", so these are told by what follows, too.
_FORMATS = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "zip"),
        (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2"),
        (rb"(?:\x28\xb5|[\x50-\x5f]\x2a\x4d\x18.{4}\x28\xb5)\x2f\xfd", "zstd"),
        (rb"\xfd7zXZ\x00", "xz"),
        (rb"\]\x00\x00", "lzma"),
        (rb"\x04\x22\x4d\x18", "lz4"),
        (rb"\xff\x06\x00\x00sNaPpY", "snappy"),
        (rb"\x1f[\x9d\xa0]", "compress (.Z)"),
        (rb"7z\xbc\xaf\x27\x1c", "7z"),
        (rb"Rar!\x1a\x07", "rar"),
        (rb".{257}ustar(?:\x00| {2}\x00)", "tar"),
        (rb"PAR1\x15|PARE.{2}\x00\x00", "parquet"),
        (rb"Obj\x01", "avro"),
        (rb"ORC\x08|ARROW1\x00", "orc or arrow"),
        (rb"SQLite format 3\x00", "sqlite"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (rb"%PDF-\d", "pdf"),
        (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "UTF-32"),
    )
)
_HEAD_BYTES = 512

# NUL bytes are judged by how many there are; the others are white space, or what printers, terminals and DOS write.
_CONTROLS = frozenset(range(0x20)) - frozenset(b"\0\b\t\n\v\f\r\x1a\x1b")
KINDS_OF_CONTROLS = 12
"""Of control characters that the first bytes of a text may have if they are not UTF-8: text of an older encoding has
a few as separators; what is encrypted or compressed has most of the 23."""


@dataclass(frozen=True)
class Text:
    """A file's text.

    Args:
        gzip: the object is compressed.
        encoding: of the bytes, once they are decompressed: ``utf-8``, ``utf-16-le`` or ``utf-16-be``.
        blocks: the text as UTF-8, with the byte order marks and invalid bytes it has. To be read once, to its end.
    """

    gzip: bool
    encoding: str
    blocks: Iterator[bytes] = field(repr=False)

    @property
    def stored_as_it_is(self) -> bool:
        """Whether the text is the object's own bytes."""
        return not self.gzip and self.encoding == UTF_8


def read_text(blocks: Iterable[bytes], *, key: str, size: int) -> Text:
    """Recognise what an object holds, and read it as text.

    ``blocks`` are all its bytes, ``size`` in number, cut anywhere; the suffix of the file's key counts only if there
    are none.

    Raises:
        InvalidFileError: it is no text, or damaged; reading the blocks may raise it too. The message names the format.
    """
    head, blocks = _peek(blocks)
    # An empty file of that name was cut off, and is not a text without lines.
    gzip = head.startswith(_GZIP_MAGIC) or (not head and key.lower().endswith((".gz", ".gzip")))
    if gzip:
        head, blocks = _peek(gunzip(blocks, size=size))
    if name := "gzip" if head.startswith(_GZIP_MAGIC) else _binary_format(head):
        raise InvalidFileError(
            f"the file is {name}{' inside gzip' if gzip else ''}, not text: deliver it as text, or compressed with gzip"
        )
    encoding = _encoding(head)
    text = blocks if encoding == UTF_8 else _from_utf_16(blocks, encoding)
    return Text(gzip, encoding, _without_many_nuls(text))


def _peek(blocks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and the same blocks still to be read."""
    blocks, head = iter(blocks), b""
    while len(head) < _HEAD_BYTES and (block := next(blocks, None)) is not None:
        head = head + block if head else block
    return head, chain([head] if head else [], blocks)


def _encoding(head: bytes) -> str:
    return next((name for mark, name in _ENCODINGS if head.startswith(mark)), UTF_8)


def _binary_format(head: bytes) -> str | None:
    known = next((name for pattern, name in _FORMATS if pattern.match(head)), None)
    return known or ("encrypted, or of an unknown binary format" if _is_binary(head[:_HEAD_BYTES]) else None)


def _is_binary(head: bytes) -> bool:
    if len(_CONTROLS.intersection(head)) <= KINDS_OF_CONTROLS or _encoding(head) != UTF_8:
        return False
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(head)
    except UnicodeDecodeError:
        return True
    return False


def _from_utf_16(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same as UTF-8; what is invalid (half a surrogate pair, an odd last byte) becomes bytes invalid in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for block in blocks:
        yield decoder.decode(block).encode(UTF_8, "surrogatepass")
    rest, _ = decoder.getstate()
    odd = len(rest) % 2
    yield rest[: len(rest) - odd].decode(encoding, "surrogatepass").encode(UTF_8, "surrogatepass") + b"\xff" * odd


def _without_many_nuls(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same blocks; at their end InvalidFileError, if they have more NUL bytes than a text."""
    seen = nuls = 0
    for block in blocks:
        seen += len(block)
        # Hardly any block has one, and to find that out takes a twentieth of the time.
        nuls += block.count(0) if 0 in block else 0
        yield block
    if nuls > STRAY_NULS and nuls * 1000 > seen * STRAY_NULS_PER_THOUSAND:
        raise InvalidFileError(
            f"the file has {nuls:,} NUL bytes: it is binary, or UTF-16 without its byte order mark; deliver it as UTF-8"
        )


def exactly(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same blocks; at their end StorageUnavailableError, if they are not ``size`` bytes together."""
    seen = 0
    for block in blocks:
        seen += len(block)
        yield block
    if seen != size:
        raise StorageUnavailableError(f"S3 sent {seen:,} bytes of the file instead of {size:,}")


def gunzip(blocks: Iterable[bytes], *, size: int) -> Iterator[bytes]:
    """The text of a gzip file in blocks of at most 1 MiB; several members one after another are one text.

    Zeros may follow a member, as some tools leave them; anything else is refused, as it may be lost data. Check sums
    are verified.

    ``blocks`` are all bytes of the file, ``size`` in number, cut anywhere; its text may have :data:`MAX_RATIO` times as
    many, or :data:`ALWAYS_ALLOWED`.

    Raises:
        InvalidFileError: not gzip, damaged, cut off, or expanding too far; blocks may have been yielded before.
    """
    allowed = max(ALWAYS_ALLOWED, MAX_RATIO * size)
    expanded = 0
    for text in _members(blocks):
        expanded += len(text)
        if expanded > allowed:
            raise InvalidFileError(
                f"the gzip file of {size:,} bytes expands to more than {allowed:,}, as a zip bomb does; deliver it "
                "uncompressed"
            )
        yield text


def _members(blocks: Iterable[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP)
    # Between members, once there was one; a file must begin with one.
    between = begun = False
    for block in blocks:
        for start in range(0, len(block), _STEP):
            rest = block[start : start + _STEP]
            while rest := rest.lstrip(b"\0") if between else rest:
                text, begun, between = _expand(member, rest), True, member.eof
                if text:
                    yield text
                rest = member.unconsumed_tail
                if member.eof:
                    rest, member = member.unused_data, zlib.decompressobj(_GZIP)
    if not between:
        # A single byte after the last member is too short to be told from the beginning of another one.
        what = "cut off, or followed by a byte too many" if begun else "empty"
        raise InvalidFileError(f"the gzip file is {what}: deliver it again")


def _expand(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _TEXT_STEP)
    except zlib.error as error:
        raise InvalidFileError("the file is not gzip, or damaged: deliver it again") from error
