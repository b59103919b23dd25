import base64
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambdas.common.errors import ApiError, TooLargeError
from lambdas.common.http import MAX_FAULTS
from lambdas.orders_api.models import (
    MAX_BODY_BYTES,
    MAX_RECORDS,
    NUMBER_RULE,
    Fault,
    InvalidRecordsError,
    OrderRecord,
    parse,
    read_records,
    text_of,
)

GOOD = {"record_id": "unique_id_1", "parameter_1": "abc", "parameter_2": 2.1}


def read(document: Any) -> list[OrderRecord]:
    return read_records(parse(json.dumps(document)))


def refused(text: str) -> InvalidRecordsError:
    with pytest.raises(InvalidRecordsError) as caught:
        read_records(parse(text))
    assert "planted" not in str([caught.value, caught.value.faults])
    return caught.value


def faults_of(**changes: Any) -> tuple[Fault, ...]:
    return refused(json.dumps([GOOD | changes])).faults


def test_record_is_read_exactly() -> None:
    (record,) = read([GOOD])
    assert (record.record_id, record.parameter_1, record.parameter_2) == ("unique_id_1", "abc", Decimal("2.1"))


@pytest.mark.parametrize("record_id", ["a", "A-Z.a_z:0-9", "x" * 128])
def test_record_id_of_the_allowed_characters_is_accepted(record_id: str) -> None:
    assert read([GOOD | {"record_id": record_id}])[0].record_id == record_id


@pytest.mark.parametrize(
    "record_id",
    ["", "x" * 129, "a b", "a\n", "\na", "a/b", "ż", "a\u0000", "planted secret", None, 1, 1.5, True, [], {}, "\ud800"],
    ids=repr,
)
def test_record_id_that_is_none_is_refused(record_id: object) -> None:
    (fault,) = faults_of(record_id=record_id)
    assert (fault.index, fault.field) == (0, "record_id")


@pytest.mark.parametrize("text", ["", "x" * 1024, "🏭" * 1024, "a\u0000b", "\n", "2.1"], ids=lambda text: text[:3])
def test_text_of_any_characters_is_accepted_as_it_stands(text: str) -> None:
    assert read([GOOD | {"parameter_1": text}])[0].parameter_1 == text


@pytest.mark.parametrize("text", ["x" * 1025, "\ud800", "a\udfff", None, 1, False, [], {"a": "planted"}], ids=ascii)
def test_text_that_is_none_is_refused(text: object) -> None:
    (fault,) = faults_of(parameter_1=text)
    assert (fault.index, fault.field) == (0, "parameter_1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.1", "2.1"),
        ("2.10", "2.10"),
        ("0.1", "0.1"),
        ("-0.30000000000000004", "-0.30000000000000004"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("1" + "0" * 100, "1e100"),
        ("0." + "0" * 100 + "1", "1e-101"),
        ("1." + "0" * 100, "1"),
        ("9.9999999999999999999999999999999999999e125", "9.9999999999999999999999999999999999999e125"),
        ("1e-130", "1e-130"),
        ("-1e-130", "-1e-130"),
        ("0e1000", "0"),
        ("-0.0", "0"),
        ("123456789012345678901234567890e-40", "1.23456789012345678901234567890e-11"),
    ],
    ids=lambda text: text[:20],
)
def test_number_is_taken_with_every_digit(text: str, value: str) -> None:
    (record,) = read_records(parse(f'[{{"record_id": "a", "parameter_1": "", "parameter_2": {text}}}]'))
    assert record.parameter_2 == Decimal(value)
    assert len(record.parameter_2.as_tuple().digits) <= 38
    assert record.parameter_2 or str(record.parameter_2) == "0", "a zero has no exponent that a table could refuse"


@pytest.mark.parametrize(
    "text",
    [
        "1" * 39,
        "0." + "1" * 39,
        "1e126",
        "-1e126",
        "99.9e125",
        "1e-131",
        "0.9e-130",
        "1e400",
        "1e999999999999999999999",
        "-1e999999999999999999999",
        "1e-999999999999999999999",
        "9" * 5000,
    ],
    ids=lambda text: text[:25],
)
def test_number_that_no_table_can_hold_exactly_is_refused(text: str) -> None:
    error = refused(f'[{{"record_id": "a", "parameter_1": "", "parameter_2": {text}}}]')
    assert error.faults == (Fault(0, "parameter_2", NUMBER_RULE),)


@pytest.mark.parametrize("value", ["2.1", "planted", True, False, None, [], [1], {}], ids=repr)
def test_value_that_is_no_number_is_refused(value: object) -> None:
    assert faults_of(parameter_2=value) == (Fault(0, "parameter_2", "must be a number"),)


@pytest.mark.parametrize("field", sorted(GOOD))
def test_each_field_is_required(field: str) -> None:
    error = refused(json.dumps([{name: value for name, value in GOOD.items() if name != field}]))
    assert error.faults == (Fault(0, field, "is required"),)


@pytest.mark.parametrize("name", ["", "ttl", "RECORD_ID", "parameter_3", "__class__"])
def test_unknown_field_is_refused(name: str) -> None:
    assert faults_of(**{name: "planted"}) == (Fault(0, name, "is not a field of a record"),)


def test_name_of_an_unknown_field_is_shown_short_and_as_unicode() -> None:
    (fault,) = faults_of(**{"x" * 100_000: 1})
    assert fault.field == "x" * 64 + "…"
    (fault,) = refused('[{"record_id": "a", "record_id": "b"}, {"\\ud800": 1, "\\ud800": 2}]').faults[1:]
    assert fault == Fault(1, "?", "is given twice")


def test_half_a_million_unknown_fields_are_counted_and_not_all_listed() -> None:
    """They fit into a body, and pydantic would make half a gigabyte of errors of them."""
    names = [f"k{number}" for number in range(460_000)]
    document = [GOOD | {"parameter_2": Decimal(1)} | dict.fromkeys(names)]
    tracemalloc.start()
    with pytest.raises(InvalidRecordsError, match="460000 faults; the first 20 are listed") as caught:
        read_records(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert [fault.field for fault in caught.value.faults] == names[:MAX_FAULTS]


@pytest.mark.parametrize("document", [[None], ["planted"], [1], [True], [[]], [["record_id", "planted"]]], ids=repr)
def test_record_that_is_no_object_is_refused_with_its_index(document: object) -> None:
    assert refused(json.dumps(document)).faults == (Fault(0, None, "must be an object"),)


@pytest.mark.parametrize("document", [None, {}, GOOD, "planted", 1, True, {"records": [GOOD]}], ids=repr)
def test_body_that_is_no_array_is_refused(document: object) -> None:
    assert refused(json.dumps(document)).faults == (Fault(None, None, "must be an array of 1 to 500 records"),)


def test_one_to_500_records_are_taken_and_neither_none_nor_more() -> None:
    many = [GOOD | {"record_id": f"id-{number}"} for number in range(MAX_RECORDS + 1)]
    assert len(read(many[:1])) == 1
    assert [record.record_id for record in read(many[:500])] == [f"id-{number}" for number in range(500)]
    for document in ([], many):
        assert refused(json.dumps(document)).faults == (Fault(None, None, "must be an array of 1 to 500 records"),)


def test_record_id_that_comes_again_is_refused() -> None:
    ids = ["a", "b", "a", "A", "b", "a"]
    error = refused(json.dumps([GOOD | {"record_id": record_id} for record_id in ids]))
    assert error.faults == (
        Fault(2, "record_id", "is that of the record with index 0"),
        Fault(4, "record_id", "is that of the record with index 1"),
        Fault(5, "record_id", "is that of the record with index 0"),
    )


def test_field_that_is_given_twice_is_refused() -> None:
    text = '[{"record_id": "a", "parameter_1": "", "parameter_2": 1, "parameter_2": 1}]'
    assert refused(text).faults == (Fault(0, "parameter_2", "is given twice"),)


def test_every_fault_is_named_and_counted() -> None:
    error = refused('[{"record_id": "", "parameter_1": 1, "extra": 1}, 1]')
    assert [(fault.index, fault.field) for fault in error.faults] == [
        (0, "record_id"),
        (0, "parameter_1"),
        (0, "parameter_2"),
        (0, "extra"),
        (1, None),
    ]
    assert str(error) == "nothing was stored: the body has 5 faults"


def test_long_list_of_faults_is_cut_and_says_so() -> None:
    error = refused(json.dumps([{}] * 500))
    assert len(error.faults) == MAX_FAULTS
    assert str(error) == "nothing was stored: the body has 1500 faults; the first 20 are listed"


IDS, TEXTS = st.text("ab.:_-Z9", max_size=3), st.text(max_size=5)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False).map(float) | st.integers()
RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "record_id": IDS | st.none(),
            "parameter_1": TEXTS | st.integers(),
            "parameter_2": NUMBERS | st.booleans(),
            "extra": st.none(),
        },
    ),
    max_size=5,
) | st.lists(
    st.fixed_dictionaries({"record_id": IDS, "parameter_1": TEXTS, "parameter_2": NUMBERS}), min_size=1, max_size=3
)


@given(RECORDS)
@example([GOOD])
def test_all_records_are_read_or_the_faults_are_those_of_the_body(document: list[dict[str, Any]]) -> None:
    faults: tuple[Fault, ...] = ()
    records: list[OrderRecord] = []
    try:
        records = read(document)
    except InvalidRecordsError as error:
        faults = error.faults
    assert bool(faults) is not bool(records)
    assert len(faults) <= MAX_FAULTS
    assert all(fault.index is None or 0 <= fault.index < len(document) for fault in faults)
    if faults:
        return
    assert [record.record_id for record in records] == [item["record_id"] for item in document]
    assert len({record.record_id for record in records}) == len(document)
    # float() of the exact text gives back the float that was sent, and an int compares exactly.
    assert all(
        type(item["parameter_2"])(record.parameter_2) == item["parameter_2"]
        for record, item in zip(records, document, strict=True)
    )


def in_base64(data: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}


def test_largest_body_is_taken_and_one_byte_more_is_not() -> None:
    largest = "[" + " " * (MAX_BODY_BYTES - 2) + "]"
    assert text_of({"body": largest}) == largest
    assert text_of(in_base64(largest.encode())) == largest
    for event in ({"body": largest + " "}, in_base64(largest.encode() + b" "), {"body": " " * 10_000_000}):
        with pytest.raises(TooLargeError, match=str(MAX_BODY_BYTES)):
            text_of(event)


def test_largest_request_that_a_client_can_mean_fits_in() -> None:
    record = {"record_id": "x" * 128, "parameter_1": "東" * 1024, "parameter_2": -float("1" * 17 + "e-100")}
    assert len(text_of({"body": json.dumps([record] * 500, indent=2)})) > 3_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.1", Decimal("2.1")),
        ("0.1000", Decimal("0.1000")),
        ("12345678901234567890.12345678901234567", Decimal("12345678901234567890.12345678901234567")),
        ("9" * 5000, Decimal("9" * 5000)),
        ("1e400", Decimal("1e400")),
        ("1e999999999999999999999", Decimal("Infinity")),
        ("-0", Decimal("-0")),
        ("0e999999999999999999999", Decimal(0)),
        ("-0.000E+999999999999999999999", Decimal(0)),
        ("0e-999999999999999999999", Decimal(0)),
        ("0.001e999999999999999999999", Decimal("Infinity")),
    ],
    ids=lambda value: str(value)[:30],
)
def test_numbers_stay_what_they_were(text: str, expected: Decimal) -> None:
    number = parse(text)
    assert isinstance(number, Decimal)
    assert number.as_tuple() == expected.as_tuple()


FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)
TEXTS = st.text() | st.binary().map(lambda data: data.decode("latin-1")) | JSON.map(json.dumps)


@given(TEXTS | TEXTS.map(lambda text: base64.b64encode(text.encode()).decode()), st.booleans())
def test_any_body_is_read_as_what_it_is_or_refused_in_our_words(body: str, encoded: bool) -> None:
    try:
        document = parse(text_of({"body": body, "isBase64Encoded": encoded}))
    except ApiError:
        return
    text = base64.b64decode(body).decode() if encoded else body
    assert document == json.loads(text.removeprefix("\ufeff"), parse_float=Decimal, parse_int=Decimal)


@given(JSON, st.booleans())
def test_documents_are_read_as_they_were_written(document: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(document, ensure_ascii=ascii_only)) == json.loads(
        json.dumps(document), parse_float=Decimal, parse_int=Decimal
    )
