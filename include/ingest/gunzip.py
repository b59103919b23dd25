"""Gzip files as a stream of text, with a limit to what a small file may become."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from include.errors import InvalidFileError

MAX_RATIO = 100
ALWAYS_ALLOWED = 64 * 1024 * 1024
"""Bytes that any file may expand to: a few lines that are alike exceed :data:`MAX_RATIO`."""

# Output at once. Input at once: what is left of it is copied whenever a member ends, and members may be tiny.
_TEXT_STEP = 1024 * 1024
_STEP = 32 * 1024
# zlib: the largest window, and a gzip header.
_GZIP = zlib.MAX_WBITS | 16


def gunzip(blocks: Iterable[bytes], *, size: int) -> Iterator[bytes]:
    """The text of a gzip file in blocks of at most 1 MiB; several members one after another are one text.

    Zeros may follow a member, as some tools leave them; anything else is refused, as it may be lost data. Check sums
    are verified.

    Args:
        blocks: all bytes of the file, cut anywhere.
        size: of the file in bytes; its text may have :data:`MAX_RATIO` times as many, or :data:`ALWAYS_ALLOWED`.

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
