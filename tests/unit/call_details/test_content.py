"""What is text, whatever its name, and what is never posted."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.call_details.content import ALWAYS_ALLOWED, MAX_RATIO, STRAY_NULS, Text, gunzip, read_text
from include.errors import InvalidFileError
from tests.worlds.call_details_reference import in_blocks

LINES = b"".join(b'{"call": %d}\n' % number for number in range(1_000))


def opened(content: bytes, *, key: str = "incoming/x.jsonl", block: int = 1 << 20) -> Text:
    return read_text(in_blocks(content, block), key=key, size=len(content))


def text_of(content: bytes, *, key: str = "incoming/x.jsonl", block: int = 1 << 20) -> bytes:
    return b"".join(opened(content, key=key, block=block).blocks)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.jsonl", content)
    return file.getvalue()


def tarred(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("x.jsonl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    "key", ["incoming/x.jsonl", "incoming/x.txt", "incoming/x.gz.1", "incoming/x.gzip", "incoming/x"]
)
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_gzip_is_recognised_by_its_first_bytes_whatever_the_suffix(key: str, block: int) -> None:
    text = opened(gzip.compress(LINES), key=key, block=block)
    assert (text.gzip, text.encoding, b"".join(text.blocks)) == (True, "utf-8", LINES)


def test_text_is_text_whatever_the_suffix() -> None:
    text = opened(LINES, key="incoming/x.jsonl.gz")
    assert (text.gzip, text.stored_as_it_is, b"".join(text.blocks)) == (False, True, LINES)


@pytest.mark.parametrize("key", ["incoming/x.gz", "incoming/X.GZ", "incoming/x.gzip"])
def test_an_empty_file_of_a_gzip_name_was_cut_off(key: str) -> None:
    with pytest.raises(InvalidFileError, match="the gzip file is empty"):
        text_of(b"", key=key)
    assert text_of(b"") == b""


@given(st.text(), st.sampled_from(["utf-16-le", "utf-16-be"]), st.booleans(), st.integers(1, 20))
@example(content="АБВГДЕЖЗ" * 20, encoding="utf-16-le", packed=False, block=7)
def test_utf_16_is_recognised_by_its_mark_and_decoded(content: str, encoding: str, packed: bool, block: int) -> None:
    stored = ("\ufeff" + content.replace("\0", "")).encode(encoding)
    text = opened(gzip.compress(stored) if packed else stored, block=block)
    if content.startswith("\0") and encoding == "utf-16-le":
        return
    assert (text.encoding, text.gzip) == (encoding, packed)
    assert b"".join(text.blocks).decode() == "\ufeff" + content.replace("\0", "")


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"a\0\x00\xd8b\0", "a\ufffd\ufffd\ufffdb"),
        (b"a\0\x00\xd8", "a\ufffd\ufffd\ufffd"),
        (b"a\0b", "a\ufffd"),
        (b"a\0\x3d\xd8\x00", "a\ufffd\ufffd\ufffd\ufffd"),
    ],
    ids=["half a pair", "half a pair at the end", "an odd byte", "half a pair and an odd byte"],
)
@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_what_is_invalid_in_utf_16_is_invalid_in_the_text(rest: bytes, expected: str, block: int) -> None:
    assert text_of(b"\xff\xfe" + rest, block=block).decode("utf-8", "replace") == "\ufeff" + expected


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (zipped(LINES), "zip"),
        (zipped(b""), "zip"),
        (bz2.compress(LINES), "bzip2"),
        (bz2.compress(b""), "bzip2"),
        (lzma.compress(LINES), "xz"),
        (lzma.compress(LINES, lzma.FORMAT_ALONE), "lzma"),
        (b"\x28\xb5\x2f\xfd\x04\x00a", "zstd"),
        (tarred(LINES), "tar"),
        (b"PAR1\x15\x04\x15", "parquet"),
        (b"PARE\x2c\x01\x00\x00\x8f", "parquet"),
        (b"Obj\x01\x04\x14", "avro"),
        (b"\x04\x22\x4d\x18d", "lz4"),
        (b"\x1f\x9d\x90", "compress"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z"),
        (b"%PDF-1.7\n", "pdf"),
        (zlib.compress(LINES), "encrypted, or of an unknown binary format"),
        (random.Random(1).randbytes(300), "encrypted, or of an unknown binary format"),
        (pickle.dumps([{"call": number} for number in range(100)]), "encrypted, or of an unknown binary format"),
        ("\ufeffa\n".encode("utf-32-le"), "UTF-32"),
        ("\ufeffa\n".encode("utf-32-be"), "UTF-32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_a_binary_file_is_refused_and_its_format_named(content: bytes, name: str, block: int) -> None:
    with pytest.raises(InvalidFileError, match=rf"the file is {name}.*, not text: deliver it as text"):
        text_of(content, block=block)
    with pytest.raises(InvalidFileError, match=rf"the file is {name}.* inside gzip, not text"):
        text_of(gzip.compress(content), key="incoming/x.gz", block=block)


def test_gzip_in_gzip_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="the file is gzip inside gzip, not text"):
        text_of(gzip.compress(gzip.compress(LINES)))


@pytest.mark.parametrize(
    "content",
    [
        b"BZh9 is a word\n",
        b"PAR1;2\n",
        b"PARENT_CALL;DURATION\n",
        b"PK 1\n",
        b"%PDF\n",
        b"]\n",
        b"Object\n",
        b"ORC\n",
        b"x" * 257 + b"ustar is a word\n",
        "\x01\x02\x03\x1c\x1d\x1eGr\u00f6\u00dfe\n".encode("latin-1"),
        bytes(range(1, 128)) + b"x" * 384 + "\u00df\n".encode(),
        "Größe\n".encode("latin-1") * 500 + bytes(range(256)),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_text_that_begins_like_a_format_is_text(content: bytes) -> None:
    assert text_of(content) == content


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf_16_without_its_mark_is_refused_for_its_nul_bytes(encoding: str) -> None:
    with pytest.raises(InvalidFileError, match="NUL bytes: it is binary, or UTF-16 without its byte order mark"):
        text_of(LINES.decode().encode(encoding))


def test_stray_nul_bytes_are_text_and_more_are_not() -> None:
    stray = b"a\0b\n" * STRAY_NULS
    assert text_of(stray) == stray
    with pytest.raises(InvalidFileError, match="9 NUL bytes"):
        text_of(stray + b"\0")
    few = b"x" * 999 + b"\0"
    assert text_of(few * 100) == few * 100, "one of a thousand"
    with pytest.raises(InvalidFileError, match="101 NUL bytes"):
        text_of(few * 100 + b"\0")


TEXT = b"".join(b'{"call": %d}\n' % number for number in range(20_000))
PACKED = gzip.compress(TEXT)


def unpacked(content: bytes, block: int = 1 << 20) -> bytes:
    return b"".join(gunzip(in_blocks(content, block), size=len(content)))


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 60), st.integers(0, 30))
def test_members_one_after_another_are_one_text(members: list[bytes], block: int, zeros: int) -> None:
    content = b"".join(gzip.compress(member) + b"\0" * zeros for member in members)
    assert unpacked(content, block) == b"".join(members)


@pytest.mark.parametrize("block", [1, 1000, 32 * 1024, 1 << 20])
def test_a_file_is_unpacked_however_it_is_cut(block: int) -> None:
    assert unpacked(PACKED, block) == TEXT


@pytest.mark.parametrize("missing", [1, 4, 8, 9, len(PACKED) // 2, len(PACKED) - 10, len(PACKED) - 1])
def test_a_file_that_is_cut_off_is_refused(missing: int) -> None:
    with pytest.raises(InvalidFileError, match="cut off"):
        unpacked(PACKED[:-missing])


def test_a_second_member_that_is_cut_off_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="cut off"):
        unpacked(PACKED + PACKED[:-1])


def test_a_single_byte_too_many_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="a byte too many"):
        unpacked(PACKED + b"\n")


def test_an_empty_file_is_not_an_empty_text() -> None:
    with pytest.raises(InvalidFileError, match="is empty"):
        unpacked(b"")
    assert unpacked(gzip.compress(b"")) == b""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TEXT, id="plain text"),
        pytest.param(zlib.compress(TEXT), id="zlib"),
        pytest.param(b"\0" + PACKED, id="zeros before"),
        pytest.param(PACKED + b"\r\n", id="a line end after"),
        pytest.param(PACKED + b"\0\0xy", id="garbage after zeros"),
        pytest.param(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], id="check sum"),
        pytest.param(PACKED[:-1] + b"\xff", id="length"),
        pytest.param(PACKED[:5000] + b"\xff" * 100 + PACKED[5100:], id="damaged in the middle"),
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 1])
def test_a_damaged_file_is_refused(content: bytes, block: int) -> None:
    with pytest.raises(InvalidFileError, match="not gzip, or damaged"):
        unpacked(content, block)


@given(st.binary(max_size=300), st.integers(0, 290), st.integers(1, 300))
def test_any_damage_is_the_file_s_fault_and_loses_nothing_silently(noise: bytes, start: int, block: int) -> None:
    content = gzip.compress(TEXT[:2000])
    damaged = content[:start] + noise + content[start + len(noise) :]
    try:
        found = unpacked(damaged, block)
    except InvalidFileError:
        return
    # What is not covered by the check sum is the header: its time, its flags for the operating system.
    assert found == TEXT[:2000]


def test_a_zip_bomb_fails_after_bounded_work() -> None:
    packer = zlib.compressobj(wbits=31)
    content = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    allowed = max(ALWAYS_ALLOWED, MAX_RATIO * len(content))
    assert allowed < 100 << 20
    sizes: list[int] = []
    with pytest.raises(InvalidFileError, match=rf"{len(content):,} bytes expands to more than {allowed:,}"):
        sizes.extend(map(len, gunzip(in_blocks(content, 1 << 20), size=len(content))))
    assert sum(sizes) <= allowed
    assert max(sizes) <= 1 << 20


def test_small_files_may_be_very_repetitive() -> None:
    text = b"the same call\n" * 1_000_000
    assert len(text) > 200 * len(gzip.compress(text))
    assert unpacked(gzip.compress(text)) == text


def test_many_tiny_members_do_not_take_quadratic_time() -> None:
    content = gzip.compress(b"a\n") * 100_000
    assert unpacked(content) == b"a\n" * 100_000


def test_nothing_is_read_ahead() -> None:
    def blocks() -> Iterator[bytes]:
        yield PACKED[:5000]
        raise AssertionError("asked for more than was needed")

    assert next(gunzip(blocks(), size=len(PACKED)))
