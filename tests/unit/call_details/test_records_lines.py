import codecs
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.content import exactly
from include.call_details.records import (
    WHITE_SPACE,
    Piece,
    count_invalid_bytes,
    count_records,
    texts_of,
    trimmed,
    whole_lines,
)
from include.errors import InvalidFileError, StorageUnavailableError
from tests.worlds.call_details_reference import FILES, in_blocks, reference_invalid_bytes, reference_texts

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def texts(content: bytes, block: int = 1 << 20) -> list[str]:
    return [text.decode() for piece in whole_lines(in_blocks(content, block)) for text in texts_of(piece)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"\n\r\n \t\r\n\v\n\f\n\x1c\x1d\x1e\x1f\n", []),
        ("\x85\n\xa0\u2003\u2028\u3000\n\u1680".encode(), []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        # Only \n ends a line.
        (b"a\rb\n", ["a\rb"]),
        (b"a\vb\fc\x1cd\x85\n", ["a\vb\fc\x1cd\ufffd"]),
        ("a\x85b\u2028c\u2029d\n".encode(), ["a\x85b\u2028c\u2029d"]),
        (b"\0\n a\0b \n", ["\0", "a\0b"]),
        (" \u3000a b\xa0\n".encode(), ["a b"]),
        # Byte order marks go at the beginning of a line, and stay anywhere else.
        (BYTE_ORDER_MARK, []),
        (BYTE_ORDER_MARK + b"\na", ["a"]),
        (BYTE_ORDER_MARK + b"a\n" + BYTE_ORDER_MARK + b"b", ["a", "b"]),
        (b"a\r\n" + BYTE_ORDER_MARK + b"\r\n" + BYTE_ORDER_MARK + b" b\r\n", ["a", "b"]),
        (BYTE_ORDER_MARK * 2 + b"a", ["a"]),
        (b"a" + BYTE_ORDER_MARK + b"b", ["a\ufeffb"]),
        (b" " + BYTE_ORDER_MARK + b"a", ["\ufeffa"]),
        (BYTE_ORDER_MARK[:2] + b"\na", ["\ufffd", "a"]),
        # One U+FFFD for each longest part of a character, as the Unicode standard recommends.
        (b"a\xffb\n\xe2\x82\n\xf0\x9f\x98x\n\xed\xa0\x80\n", ["a\ufffdb", "\ufffd", "\ufffdx", "\ufffd\ufffd\ufffd"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_hostile_file_has_the_lines_that_a_reader_of_the_contract_expects(
    content: bytes, expected: list[str], block: int
) -> None:
    assert texts(content, block) == expected


@given(FILES, st.integers(1, 50))
def test_lines_are_those_of_the_contract_however_the_file_is_cut(content: bytes, block: int) -> None:
    assert texts(content, block) == reference_texts(content)


@given(FILES, st.integers(1, 50))
def test_pieces_are_whole_lines_and_together_the_file(content: bytes, block: int) -> None:
    pieces = list(whole_lines(in_blocks(content, block)))
    assert b"".join(piece.data for piece in pieces) == content
    position = 0
    for piece in pieces:
        assert piece.start == position
        assert piece.data.endswith(b"\n") or piece is pieces[-1]
        position = piece.stop
    assert all(piece.data for piece in pieces)


@given(FILES, st.integers(1, 50))
def test_counting_agrees_with_reading(content: bytes, block: int) -> None:
    pieces = list(whole_lines(in_blocks(content, block)))
    assert [count_records(piece) for piece in pieces] == [len(list(texts_of(piece))) for piece in pieces]


def test_record_after_a_byte_order_mark_in_mid_file_is_json() -> None:
    joined = BYTE_ORDER_MARK + b'{"a":1}\n' + BYTE_ORDER_MARK + b'{"a":2}\n'
    for start in (0, 100):
        (piece,) = whole_lines([joined], start=start)
        assert list(texts_of(piece)) == [b'{"a":1}', b'{"a":2}']
        assert count_records(piece) == 2


def test_white_space_is_what_python_strips() -> None:
    assert set(WHITE_SPACE) == {chr(code) for code in range(sys.maxunicode + 1) if not chr(code).strip()}


@pytest.mark.parametrize("character", WHITE_SPACE, ids=lambda character: f"U+{ord(character):04X}")
def test_each_white_space_is_trimmed_and_makes_no_record(character: str) -> None:
    assert trimmed(f"{character}a{character}".encode()) == b"a"
    assert count_records(Piece.of(0, f"{character * 2}\na\n{character}".encode())) == 1


@pytest.mark.parametrize("character", ["\u200b", "\u180e", "\x00", "\x7f", "\u2060", "\ufffd", "é"])
def test_what_looks_like_white_space_is_a_record(character: str) -> None:
    assert trimmed(character.encode()) == character.encode()
    assert count_records(Piece.of(0, f"\n{character}\n".encode())) == 1


@given(
    st.lists(st.sampled_from([b"a", b"\x80", b"\xc2", "é€🌞".encode(), b"\xe2\x82", b"\xf0\x9f", b"\n"])),
    st.integers(1, 9),
)
def test_invalid_bytes_are_the_same_wherever_a_window_ends(parts: list[bytes], window: int) -> None:
    content = b"".join(parts)
    # Among others in their block, which are no part of the lines.
    block = b"\x80\n" + content + b"\n\x80"
    for piece in (Piece.of(0, content), Piece(0, block, 2, len(block) - 2)):
        assert count_invalid_bytes(piece, window_bytes=window) == reference_invalid_bytes(content)


@given(FILES, st.integers(1, 30))
def test_parts_of_a_piece_are_whole_lines_and_together_the_piece(content: bytes, size: int) -> None:
    for piece in whole_lines(in_blocks(content, 100)):
        parts = list(piece.parts(size))
        assert b"".join(part.data for part in parts) == piece.data
        assert [part.start for part in parts] == [piece.start + part.begin - piece.begin for part in parts]
        assert all(part.data.endswith(b"\n") for part in parts[:-1])


@given(st.binary() | FILES)
def test_invalid_bytes_are_those_that_python_replaces(content: bytes) -> None:
    replaced = []

    def count(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        replaced.append(error.end - error.start)
        return "\ufffd", error.end

    codecs.register_error("test_lines.count", count)
    assert content.decode("utf-8", "test_lines.count") == content.decode("utf-8", "replace")
    assert count_invalid_bytes(Piece.of(0, content)) == sum(replaced)
    by_piece = sum(count_invalid_bytes(piece) for piece in whole_lines(in_blocks(content, 7)))
    assert by_piece == sum(replaced)


@pytest.mark.parametrize("block", [1, 7, 10, 11, 1000])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(block: int) -> None:
    allowed = b"a\n" + b"b" * 10 + b"\nc\n"
    assert len(list(whole_lines(in_blocks(allowed, block), max_line_bytes=10))) >= 1
    for ending in (b"\nc\n", b""):
        with pytest.raises(InvalidFileError, match=r"begins at byte 2 has more than 10 bytes"):
            list(whole_lines(in_blocks(b"a\n" + b"b" * 11 + ending, block), max_line_bytes=10))


def test_an_endless_line_is_refused_before_it_fills_the_memory() -> None:
    asked = 0

    def endless() -> list[bytes]:
        nonlocal asked
        asked += 1
        return [b"x" * 100]

    with pytest.raises(InvalidFileError):
        list(whole_lines((block for _ in iter(int, 1) for block in endless()), max_line_bytes=1000))
    assert asked == 11


def test_a_line_of_fifty_megabytes_is_a_line() -> None:
    content = b'{"a":"' + b"x" * 50_000_000 + b'"}\n'
    begun = time.process_time()
    (piece,) = whole_lines(in_blocks(content, 64 * 1024))
    assert (count_records(piece), [len(text) for text in texts_of(piece)]) == (1, [len(content) - 1])
    # Joining the blocks one by one would copy 20 GB.
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("part", [b"\n", b" \n", b" ", b"\xc2\xa0", b"\xe3\x80\x80\n", b"\xff", b"\r"])
def test_blank_and_broken_bytes_by_the_million_take_linear_time(part: bytes) -> None:
    piece = Piece.of(0, b"\n" + part * (1_000_000 // len(part)) + b"x\n")
    begun = time.process_time()
    assert count_records(piece) >= 1
    count_invalid_bytes(piece)
    assert time.process_time() - begun < 5


def test_a_stream_that_ends_early_is_noticed() -> None:
    assert list(exactly([b"ab", b"c"], 3)) == [b"ab", b"c"]
    for size in (2, 4):
        with pytest.raises(StorageUnavailableError, match=rf"3 bytes of the file instead of {size}"):
            list(exactly([b"ab", b"c"], size))
