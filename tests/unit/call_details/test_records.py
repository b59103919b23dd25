import json

from hypothesis import given
from hypothesis import strategies as st

from include.call_details.records import record
from tests.worlds.json_texts import DAMAGED, JSON_TEXTS, json_accepts


@given(JSON_TEXTS)
def test_every_document_is_a_record_byte_for_byte(text: bytes) -> None:
    assert record(text, 1) == text


@given(st.text(st.characters(exclude_categories=["Cs"])) | DAMAGED, st.integers(1, 10**12))
def test_any_text_can_be_read_back_from_its_record(text: str, number: int) -> None:
    made = record(text.encode(), number)
    if json_accepts(text):
        assert made == text.encode()
    else:
        assert json.loads(made) == {"data": text, "lineNumber": number}


def test_a_long_line_is_not_copied() -> None:
    text = b"[" + b",".join([b'{"a":1}'] * 5_000_000) + b"]"
    assert record(text, 1) is text
