"""The contract's rules written down as plainly as they can be, for whole files in memory, and files to try them on."""

import json
from collections.abc import Iterator

from hypothesis import strategies as st

from include.call_details.content import KINDS_OF_CONTROLS, STRAY_NULS
from tests.worlds.json_texts import JSON_TEXTS, json_accepts

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def reference_texts(content: bytes) -> list[str]:
    """The non-blank lines of a file, without byte order marks at their beginnings, trimmed."""
    lines = [line.lstrip("\ufeff").strip() for line in content.decode("utf-8", "replace").split("\n")]
    return [line for line in lines if line]


def reference_records(content: bytes) -> list[str]:
    """The records of a file as JSON texts, those that are made without needless spaces."""
    return [
        text if json_accepts(text) else _wrapped(text, number)
        for number, text in enumerate(reference_texts(content), 1)
    ]


def _wrapped(text: str, number: int) -> str:
    return json.dumps({"data": text, "lineNumber": number}, ensure_ascii=False, separators=(",", ":"))


def reference_invalid_bytes(content: bytes) -> int:
    """How many bytes U+FFFD stands for: all that are not of a character."""
    invalid = position = 0
    while position < len(content):
        size = next((size for size in range(1, 5) if _is_character(content[position : position + size])), 0)
        invalid += not size
        position += size or 1
    return invalid


def _is_character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False


def reference_chunks(
    content: bytes, *, per_batch: int, chunk_bytes: int, chunk_batches: int
) -> list[tuple[int, int, int]]:
    """Start, stop and records of each chunk: line by line, a chunk ends with the first batch that fills it."""
    chunks: list[tuple[int, int, int]] = []
    start = stop = records = 0
    for line in content.split(b"\n"):
        stop = min(stop + len(line) + 1, len(content))
        if not reference_texts(line):
            continue
        records += 1
        if records % per_batch == 0 and (stop - start >= chunk_bytes or records // per_batch >= chunk_batches):
            chunks.append((start, stop, records))
            start, records = stop, 0
    if records:
        chunks.append((start, len(content), records))
    elif chunks:
        chunks[-1] = (chunks[-1][0], len(content), chunks[-1][2])
    return chunks


def in_blocks(content: bytes, size: int) -> Iterator[bytes]:
    """A stream's blocks."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


_HOSTILE = [
    b"",
    b" ",
    b"\t",
    b"\r",
    b"\v\f",
    b"\x1c\x1d\x1e\x1f",
    b"\x85",
    "\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000".encode(),
    _BYTE_ORDER_MARK,
    _BYTE_ORDER_MARK + b'{"after":"a mark"}',
    "\u200b".encode(),
    b"\0",
    b"\x80",
    b"\xff\xfe",
    b"\xc2",
    b"\xe2\x80",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"123456789012345678901234567890",
    b'"\\ud800"',
    b"[1,]",
    b"1 2",
    b"{'a':1}",
    b'{"a":1,"a":2}',
    '{"name":"Zażółć 東京 \u2028"}'.encode(),
    b'"\x7f"',
    b"plain text",
    b"a,b;c",
]

_PARTS = st.sampled_from(_HOSTILE) | JSON_TEXTS | st.binary(max_size=6)
_LINES = st.lists(_PARTS, max_size=3).map(b"".join)


def _utf_8(content: bytes) -> bool:
    """Whether a file is neither in UTF-16 nor binary."""
    controls = set(range(0x20)) & set(content[:512])
    marks = (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")
    return not content.startswith(marks) and content.count(0) <= STRAY_NULS and len(controls) <= KINDS_OF_CONTROLS


FILES = st.builds(
    lambda mark, lines, ends, last: mark + b"".join(map(bytes.__add__, lines, ends)) + last,
    st.sampled_from([b"", b"", _BYTE_ORDER_MARK, _BYTE_ORDER_MARK * 2, _BYTE_ORDER_MARK[:2]]),
    st.lists(_LINES, max_size=40),
    st.lists(st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b" \n\r\n"]), min_size=40, max_size=40),
    _LINES,
).filter(_utf_8)
"""Files with every kind of trouble, most of them short enough for a failure to be read."""
