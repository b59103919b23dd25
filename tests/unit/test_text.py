import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.text import array_texts, indented_json, one_line, printable, shallow_json

TEXTS = st.text(st.characters(codec=None, exclude_categories=())) | st.text(
    st.sampled_from(["\x01", "\x1b", "\x7f", "\x85", "\n", "\ud800", "\udfff", "\u202e", "\ufffe", "a", " "])
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zażółć 東京 🏭", "Zażółć 東京 🏭"),
        ("bell \x07", "bell \\x07"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\tand a tab", "two\\nlines\\tand a tab"),
        ("\x7f\x9f", "\\x7f\\x9f"),
        ("half \ud83c of a pair", "half \\ud83c of a pair"),
        ("turned \u202e round", "turned \\u202e round"),
        ("line\u2028break", "line\\u2028break"),
        ("no character \uffff", "no character \\uffff"),
        ("back\\slash", "back\\slash"),
    ],
    ids=ascii,
)
def test_what_cannot_be_printed_becomes_a_visible_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(TEXTS)
def test_printable_text_can_be_stored_and_sent_by_all(text: str) -> None:
    shown = printable(text)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert printable(shown) == shown


@given(TEXTS, st.integers(3, 50))
def test_one_line_is_short_and_printable(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert printable(line) == line


def test_one_line_joins_lines_and_tells_that_it_was_cut() -> None:
    assert one_line("  first\r\n\tsecond  ", 100) == "first second"
    assert one_line("x" * 10, 10) == "x" * 10
    assert one_line("x" * 11, 10) == "xxxxxxx..."
    assert one_line("x" * 10**6, 10) == "xxxxxxx..."


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"a":1.50,"b":[]}', ["{", '  "a": 1.50,', '  "b": []', "}"]),
        ('["}{\\"", {"x": NaN}]', ["[", '  "}{\\"",', "  {", '    "x": NaN', "  }", "]"]),
        ("", [""]),
        ("no { json", ["no{", "  json"]),
    ],
)
def test_json_is_indented_without_being_read(text: str, lines: list[str]) -> None:
    assert indented_json(text) == "\n".join(lines)


def test_deep_nesting_does_not_take_the_square_of_its_size() -> None:
    assert len(indented_json("[" * 100_000)) < 100_000 * 100


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": {"list": [9]}, "list": [1.50, {"list": [2]}, "]"], "b": [3]}', ["1.50", '{"list": [2]}', '"]"']),
        ('{"list":[]}', []),
        ('{"list": 1, "b": [2]}', None),
        ('[{"list": [1]}]', None),
        ("list", None),
    ],
)
def test_elements_of_an_array_stay_as_they_are_written(text: str, found: list[str] | None) -> None:
    assert array_texts(text, "list") == found


@pytest.mark.parametrize(
    ("inner", "left"),
    [
        ('"[{", 1', '"[{", 1'),
        ('[1, {"a": [[2]]}, "]"], {"a": "}"}, [], 3', "Infinity, Infinity, Infinity, 3"),
        ("[" * 100_000 + "]" * 100_000, "Infinity"),
    ],
    ids=["level 500", "level 501", "deep"],
)
def test_what_lies_deeper_than_500_levels_is_a_number_that_json_has_not(inner: str, left: str) -> None:
    def within(text: str) -> bytes:
        return b'{"a": [%b, "]"], "b": 1}' % (b"[" * 498 + text.encode() + b"]" * 498)

    assert shallow_json(within(inner)) == within(left)
    assert json.loads(within(left))["b"] == 1


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[" * 600 + b"}" * 99 + b"]", b'{"a":' * 600 + b'"}'])
def test_depth_without_an_end_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        json.loads(shallow_json(text))
