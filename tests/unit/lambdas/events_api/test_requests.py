import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambdas.common.errors import ApiError, EmptyBodyError, NotJsonError, TooLargeError
from lambdas.common.http import MAX_FAULTS
from lambdas.events_api.errors import Fault, InvalidRequestError
from lambdas.events_api.models import MAX_DEPTH, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, NewEvent
from lambdas.events_api.requests import MAX_BODY_BYTES, read_new_event

GOOD = {"event_type": "order.created", "payload": {"total": 12.5}}


def read(text: str) -> NewEvent:
    return read_new_event({"body": text})


def event_of(**changes: Any) -> NewEvent:
    return read(json.dumps(GOOD | changes))


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(InvalidRequestError) as caught:
        read(text)
    assert "planted" not in str([caught.value, caught.value.details])
    return caught.value.faults


def with_payload(text: str) -> str:
    return f'{{"event_type": "a", "payload": {text}}}'


def nested(levels: int) -> str:
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def test_event_without_optional_fields_is_accepted() -> None:
    assert event_of() == NewEvent.model_construct(
        event_type="order.created", payload='{"total":12.5}', metadata=None, idempotency_key=None
    )


def test_optional_fields_are_accepted() -> None:
    event = event_of(metadata={}, idempotency_key="A-1")
    assert (event.metadata, event.idempotency_key) == ("{}", "A-1")


@pytest.mark.parametrize("event_type", ["a", "order.created", "a_b.9", ".", "x" * 100])
def test_event_type_of_the_allowed_characters_is_accepted(event_type: str) -> None:
    assert event_of(event_type=event_type).event_type == event_type


NO_TEXTS = [1, 2.5, True, [], {}]


@pytest.mark.parametrize(
    "event_type", ["", "x" * 101, "Order", "a b", "a-b", "a\n", "ż", "a\u0000", "planted!", None, *NO_TEXTS], ids=repr
)
def test_event_type_that_is_none_is_refused(event_type: object) -> None:
    (fault,) = faults_of(json.dumps(GOOD | {"event_type": event_type}))
    assert fault.field == "event_type"


@pytest.mark.parametrize("key", ["a", "A-Z.a_z:0-9", "x" * 255])
def test_idempotency_key_of_the_allowed_characters_is_accepted(key: str) -> None:
    assert event_of(idempotency_key=key).idempotency_key == key


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a/b", "a\n", "ż", "planted!", *NO_TEXTS], ids=repr)
def test_idempotency_key_that_is_none_is_refused(key: object) -> None:
    (fault,) = faults_of(json.dumps(GOOD | {"idempotency_key": key}))
    assert fault.field == "idempotency_key"


@pytest.mark.parametrize("value", ["planted", "", 1, 2.5, True, [], [{"planted": 1}]], ids=repr)
@pytest.mark.parametrize("field", ["payload", "metadata"])
def test_payload_and_metadata_are_objects(field: str, value: object) -> None:
    assert faults_of(json.dumps(GOOD | {field: value})) == (Fault(field, "must be an object"),)


def test_null_counts_as_absent_where_a_field_is_optional_and_only_there() -> None:
    assert event_of(metadata=None, idempotency_key=None) == event_of()
    nothing = dict.fromkeys(("event_type", "payload", "metadata", "idempotency_key"))
    assert [fault.field for fault in faults_of(json.dumps(nothing))] == ["event_type", "payload"]


def test_payload_must_not_be_empty() -> None:
    assert faults_of(json.dumps(GOOD | {"payload": {}})) == (Fault("payload", "must not be empty"),)


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-0", "-0.0", "1.50", "1E5", "1e+05", "0.0000001", "1234567890123456789012345678901234567890.1"),
        *("1e400", "-1e-400", "1e999999999999999999999", "9" * 5000),
    ],
    ids=lambda text: text[:20],
)
def test_number_keeps_every_digit(number: str) -> None:
    event = read(f'{{"event_type": "a", "payload": {{"n": [{number}]}}, "metadata": {{"n": {number}}}}}')
    assert event.payload == f'{{"n":[{number}]}}'
    assert event.metadata == f'{{"n":{number}}}'


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ('{"a": {"planted": 1, "planted": 2}}', "an object in it gives the same name twice"),
        ('{"planted": 1, "planted": 2}', "an object in it gives the same name twice"),
        ('{"a": [[{"b": "\\ud800"}]]}', "must be Unicode: a surrogate stands alone in it"),
        ('{"\\udfff": 1}', "must be Unicode: a surrogate stands alone in it"),
        (nested(MAX_DEPTH + 1), f"must not be nested deeper than {MAX_DEPTH} levels"),
    ],
    ids=lambda text: text[:20],
)
def test_what_no_receiver_could_read_is_refused(payload: str, says: str) -> None:
    assert faults_of(with_payload(payload)) == (Fault("payload", says),)


def test_payload_of_the_deepest_nesting_is_taken() -> None:
    assert read(with_payload(nested(MAX_DEPTH))).payload == nested(MAX_DEPTH)


@pytest.mark.parametrize(("field", "most"), [("payload", MAX_PAYLOAD_BYTES), ("metadata", MAX_METADATA_BYTES)])
@pytest.mark.parametrize("character", ["x", "ż", "🏭", "\n"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_largest_field_is_taken_and_a_byte_more_is_not(field: str, most: int, character: str, ascii_only: bool) -> None:
    """Its size is that of its text in UTF-8, however the client wrote it."""
    size = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    room = most - len('{"k":""}')
    text = character * (room // size) + "y" * (room % size)

    def body(value: str) -> str:
        return json.dumps(GOOD | {field: {"k": value}}, ensure_ascii=ascii_only, indent=4)

    assert len(getattr(read(body(text)), field).encode()) == most
    with pytest.raises(TooLargeError, match=f"^{field} has {most + 1} bytes; it may have {most}$"):
        read(body(text + "y"))


def test_body_that_is_larger_than_any_event_is_refused() -> None:
    with pytest.raises(TooLargeError, match=f"the body has {MAX_BODY_BYTES + 1} bytes"):
        read(" " * (MAX_BODY_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", EmptyBodyError),
        (" \n", EmptyBodyError),
        ("planted", NotJsonError),
        (json.dumps(GOOD)[:-1], NotJsonError),
        (with_payload('{"a": NaN}'), NotJsonError),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, NotJsonError),
    ],
    ids=lambda value: str(value)[:20],
)
def test_body_that_is_no_json_is_refused_and_not_quoted(text: str, error: type[ApiError]) -> None:
    with pytest.raises(error) as caught:
        read(text)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"planted"', "true", json.dumps([GOOD])], ids=repr)
def test_body_that_is_no_object_is_refused(text: str) -> None:
    assert faults_of(text) == (Fault(None, "must be an object"),)


def test_field_that_is_given_twice_is_refused() -> None:
    text = '{"event_type": "a", "payload": {"a": 1}, "payload": {"a": 1}}'
    assert faults_of(text) == (Fault("payload", "is given twice"),)


@pytest.mark.parametrize("name", ["", "owner", "event_id", "status", "EVENT_TYPE", "__class__"])
def test_unknown_field_is_refused(name: str) -> None:
    assert faults_of(json.dumps(GOOD | {name: "planted"})) == (Fault(name, "is not a field of an event"),)


def test_every_fault_is_named() -> None:
    faults = faults_of('{"payload": [], "metadata": 1, "idempotency_key": "", "x": 1}')
    assert [fault.field for fault in faults] == ["event_type", "payload", "metadata", "idempotency_key", "x"]
    assert faults[0].message == "is required"


def test_many_unknown_fields_are_counted_and_not_all_listed() -> None:
    names = [f"k{number}" for number in range(1_000)]
    with pytest.raises(InvalidRequestError, match="1000 faults; the first 20 are listed") as caught:
        read(json.dumps(GOOD | dict.fromkeys(names)))
    assert [fault.field for fault in caught.value.faults] == names[:MAX_FAULTS]


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | UNICODE,
    lambda children: st.lists(children) | st.dictionaries(UNICODE, children),
    max_leaves=20,
)


@given(st.dictionaries(UNICODE, JSON, min_size=1), st.booleans(), st.sampled_from([None, 2]))
def test_payload_is_what_was_sent(payload: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    body = json.dumps({"event_type": "a", "payload": payload}, ensure_ascii=ascii_only, indent=indent)
    kept = read(body).payload
    assert kept == json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    assert json.loads(kept, parse_float=Decimal) == json.loads(json.dumps(payload), parse_float=Decimal)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")) | JSON.map(json.dumps))
def test_any_body_that_is_no_event_is_refused_in_our_words(body: str) -> None:
    with pytest.raises(ApiError):
        read(body)


OBJECTS = st.dictionaries(UNICODE, JSON, min_size=1)


@given(
    st.fixed_dictionaries(
        {}, optional={"event_type": JSON, "payload": JSON, "metadata": JSON, "idempotency_key": JSON, "other": JSON}
    )
    | st.fixed_dictionaries(
        {"event_type": st.text("az09._", min_size=1, max_size=100), "payload": OBJECTS},
        optional={"metadata": OBJECTS | JSON, "idempotency_key": st.text("Az09._:-", min_size=1) | JSON, "other": JSON},
    )
)
@example(GOOD)
def test_any_object_is_an_event_or_its_wrong_fields_are_named(document: dict[str, Any]) -> None:
    faults: tuple[Fault, ...] = ()
    try:
        event = read(json.dumps(document))
    except InvalidRequestError as error:
        faults = error.faults
    else:
        assert event.event_type == document["event_type"]
        assert json.loads(event.payload) == document["payload"]
    named = {fault.field for fault in faults}
    assert named <= {*NewEvent.model_fields, "other"}
    assert ("other" in named) is ("other" in document)
