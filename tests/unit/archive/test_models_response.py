import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.models import read_response
from include.errors import InvalidAnswerError


@pytest.mark.parametrize(
    ("body", "empty"),
    [
        (b"[]", True),
        (b"{}", True),
        (b" \r\n[ ]\t", True),
        (b"{\n}", True),
        (b"[[]]", False),
        (b"[{}]", False),
        (b"[null]", False),
        (b'{"a": null}', False),
        (b"0", False),
        (b'""', False),
        (b'"x"', False),
        (b"false", False),
        (b"true", False),
        (b"1e999", False),
        (b"-0.0", False),
        (b"9" * 5000, False),
        (b"[" + b"9" * 5000 + b"]", False),
        (b"[" * 50 + b"]" * 50, False),
        (b'{"twice": 1, "twice": 2}', False),
        ('{"name": "Zażółć 東京 🏭"}'.encode(), False),
        (b'"\\ud800"', False),
        # With a byte order mark.
        (b"\xef\xbb\xbf[]", True),
        (b'\xef\xbb\xbf{"a": 1}', False),
        ("[]".encode("utf-16"), True),
        ('{"name": "Zażółć 🏭"}'.encode("utf-16-le"), False),
        ("{ }".encode("utf-16-be"), True),
        ('["a"]'.encode("utf-32"), False),
        (b"[" * 200_000 + b"]" * 200_000, False),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, False),
        (("[" * 5_000 + "]" * 5_000).encode("utf-16"), False),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_any_json_document_but_null_is_an_answer(body: bytes, empty: bool) -> None:
    answer = read_response(body)
    assert answer.body == body
    assert answer.empty is empty
    assert answer.sha256 == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty body"),
        (b" \r\n\t ", "empty body"),
        (b"null", "null"),
        (b"  null\n", "null"),
        (b"NaN", "invalid JSON"),
        (b"[Infinity]", "invalid JSON"),
        (b'{"a": -Infinity}', "invalid JSON"),
        (b"<!doctype html><p>planted</p>", "HTML or XML"),
        (b"\n <html>planted</html>", "HTML"),
        (b"planted", "invalid JSON"),
        (b'{"planted": 1', "invalid JSON"),
        (b'{"planted": 1} {}', "invalid JSON"),
        (b"{'planted': 1}", "invalid JSON"),
        (b'{"planted": 1,}', "invalid JSON"),
        (b'"planted\n"', "invalid JSON"),
        (b"nul", "invalid JSON"),
        (b"\xef\xbb\xbf", "invalid JSON"),
        (b"\xef\xbb\xbfnull", "null"),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", "invalid JSON"),
        ("null".encode("utf-16"), "null"),
        ('["planted"'.encode("utf-16-le"), "invalid JSON"),
        ('["planted"]'.encode("utf-16")[:-1], "UTF-16"),
        (b'["\xff planted"]', "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b"[" * 200_000 + b"]" * 199_999, "invalid JSON"),
        (b'{"a":' * 100_000 + b"planted" + b"}" * 100_000, "invalid JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_everything_else_is_refused_without_being_quoted(body: bytes, says: str) -> None:
    with pytest.raises(InvalidAnswerError, match=says) as caught:
        read_response(body)
    assert "planted" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(st.one_of(st.binary(), st.text().map(str.encode), JSON.map(lambda value: json.dumps(value).encode())))
def test_reading_raises_only_its_own_error_and_changes_no_byte(body: bytes) -> None:
    try:
        answer = read_response(body)
    except InvalidAnswerError:
        return
    assert answer.body == body


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_every_document_but_null_is_accepted(document: object, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    if document is None:
        with pytest.raises(InvalidAnswerError):
            read_response(body)
    else:
        assert read_response(body).empty == (document in ([], {}))


def test_body_is_not_in_the_repr() -> None:
    assert "planted" not in repr(read_response(b'["planted"]'))
