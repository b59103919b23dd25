from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.content import ALWAYS_ALLOWED, MAX_RATIO, gunzip
from include.errors import InvalidFileError
from tests.worlds.call_details_reference import in_blocks

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
