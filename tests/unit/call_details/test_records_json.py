import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.records import is_json
from tests.worlds.json_texts import DAMAGED, INVALID, JSON_TEXTS, VALID, json_accepts


@pytest.mark.parametrize("text", VALID, ids=lambda text: repr(text)[:30])
def test_what_rfc_8259_takes_is_json(text: str) -> None:
    assert is_json(text.encode())


def test_white_space_around_a_value_is_json_s_own() -> None:
    assert is_json(b" \t\r\n1 \t\r\n")
    assert not any(is_json(text.encode()) for text in ("", " ", "\xa01", "1\f", "\v1", "1\u2028", "1\0"))


@pytest.mark.parametrize("text", INVALID, ids=lambda text: repr(text)[:30])
def test_what_rfc_8259_refuses_is_no_json(text: str) -> None:
    assert not is_json(text.encode())


@given(JSON_TEXTS)
def test_what_is_written_as_json_is_json(text: bytes) -> None:
    assert is_json(text)
    assert is_json(b" \t\r\n" + text + b" \t\r\n")


@given(DAMAGED)
def test_damaged_json_is_judged_as_by_python(text: str) -> None:
    assert is_json(text.encode()) == json_accepts(text)


@given(st.text(alphabet='{}[]",:\\ntrue01.-eE \t\xa0'))
def test_noise_is_judged_as_by_python(text: str) -> None:
    assert is_json(text.encode()) == json_accepts(text)


@given(DAMAGED, st.sampled_from(["[", '{"a":', '[0,"]",']), st.integers(1, 3))
def test_the_verdict_is_the_same_however_deep_the_text_lies(text: str, opening: str, times: int) -> None:
    closing = "}" if opening.startswith("{") else "]"

    def nested(depth: int) -> bytes:
        return f"{opening * depth}{text}{closing * depth}".encode()

    assert is_json(nested(3_000 + 499 * times)) == json_accepts(nested(50).decode())


@pytest.mark.parametrize(
    "text", ['""\\"', '["\\ud800]', '"[', '"\\', '\\"', '1["[]"]', '"\\ud800" 1', "1 []"], ids=repr
)
def test_what_is_wrong_deep_inside_is_found(text: str) -> None:
    assert not is_json(f"{'[' * 5_000}{text}{']' * 5_000}".encode())


def test_a_surrogate_without_its_partner_deep_inside_is_json() -> None:
    assert is_json(b"%b%b%b" % (b"[" * 5_000, rb'"\ud800","]"', b"]" * 5_000))


@pytest.mark.parametrize(
    "part", ["[", '{"a":', "[1,", "1", "\\n", " ", '"a",', "\\u00e9", "\\ud800", '["\\"', "[]"], ids=repr
)
def test_time_grows_with_the_length_and_not_faster(part: str) -> None:
    def seconds(repeats: int) -> float:
        text = ('"' if part.startswith("\\") else "") + part * repeats + "x"
        begun = time.process_time()
        assert not is_json(text.encode())
        return time.process_time() - begun

    # 16 times the length takes 16 times as long, or 256 times if it were quadratic.
    short = min(seconds(20_000) for _ in range(3))
    assert seconds(320_000) < 80 * max(short, 0.002)


def test_python_s_parser_is_a_fair_judge() -> None:
    """Of the tables above, but for what is too deep for it."""
    assert [text for text in VALID if len(text) < 10_000 and not json_accepts(text)] == []
    assert [text for text in INVALID if len(text) < 10_000 and json_accepts(text)] == []
