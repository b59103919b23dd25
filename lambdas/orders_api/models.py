"""From the body of `POST /orders` to records that can be stored, or to all that is wrong with it; and why not stored.

The OpenAPI document takes the schema of a record from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Subnormal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from lambdas.common.errors import InvalidError, UnavailableError
from lambdas.common.http import MAX_FAULTS, AmbiguousObject, body_text, field_faults, parse_json, shown, sorted_out


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a body.

    Args:
        index: position of the record in the array, from 0; None when the fault is the body's own.
        field: name of the field; None when the fault is the record's own.
        message: what is wrong, without what was sent.
    """

    index: int | None
    field: str | None
    message: str


class InvalidRecordsError(InvalidError):
    """The body breaks the schema; ``faults`` are :class:`Fault`."""

    code, has = "invalid_records", "nothing was stored: the body has"


class NotStoredError(UnavailableError):
    """The table took some records, or none, within the time there was; other arguments as of the base class.

    Args:
        stored: number of records that are known to be stored.
        not_stored: ids of the others. Some may be stored all the same when the table's answer got lost; sending them
            again does no harm.
    """

    def __init__(
        self, *, stored: int, not_stored: Sequence[str], reasons: Sequence[str], worth_repeating: bool
    ) -> None:
        advice = "send those again later" if worth_repeating else "the service must be repaired before it takes those"
        super().__init__(
            f"records stored: {stored}, not stored: {len(not_stored)}; {advice}",
            reasons=tuple(reasons),
            worth_repeating=worth_repeating,
        )
        self.code = "partially_stored" if stored else "unavailable"
        self.stored = stored
        self.not_stored = tuple(not_stored)
        self.details = {"stored": stored, "not_stored": list(not_stored)}


MAX_BODY_BYTES = 4 * 1024 * 1024
r"""500 records of the longest texts take 3.3 MB when a client writes every character as \uXXXX. Lambda refuses events
of more than 6 MB, in which each quote, backslash and line break of the body takes another byte. Between the two lies
the densest useful body."""


def text_of(event: Mapping[str, Any]) -> str:
    """The body of an API Gateway event; for errors, see :func:`lambdas.common.http.body_text`."""
    return body_text(event, max_bytes=MAX_BODY_BYTES)


def parse(text: str) -> Any:
    """The JSON document in ``text``; for errors, see :func:`lambdas.common.http.parse_json`.

    Every number becomes a Decimal, so that it stays exactly what was written; one whose exponent even Decimal cannot
    hold becomes infinity, but for zero.
    """
    return parse_json(text, number=_number)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        mantissa, _, _ = text.lower().partition("e")
        return Decimal("Infinity") if mantissa.strip("-0.") else Decimal(0)


MAX_RECORDS = 500
NUMBER_RULE = "must have at most 38 significant digits and lie between 1e-130 and 1e126, or be 0, or the same below 0"

_DYNAMODB_NUMBER = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, InvalidOperation, Overflow, Subnormal])
"""What a DynamoDB number can hold exactly; boto3's own context lets pass what the service then refuses."""


def _storable(value: Decimal) -> Decimal:
    """The same value with at most 38 digits; trailing zeros are no digits."""
    try:
        # A zero has no size, but its exponent could be out of range.
        return _DYNAMODB_NUMBER.plus(value) if value else Decimal(0)
    except DecimalException:
        raise ValueError(NUMBER_RULE) from None


class OrderRecord(BaseModel):
    """One record. Numbers are kept exactly as they are written."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    record_id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._:-]{1,128}$",
            description="Names the record: unique in a request; a record that is sent again replaces the one before.",
        ),
    ]
    parameter_1: Annotated[str, Field(max_length=1024, description="A text of at most 1,024 characters.")]
    parameter_2: Annotated[
        Decimal,
        AfterValidator(_storable),
        WithJsonSchema({"type": "number"}),
        Field(description=f"A number, kept exactly as written. It {NUMBER_RULE}."),
    ]


_MESSAGES = {
    "is_instance_of": "must be a number",
    "finite_number": NUMBER_RULE,
    "missing": "is required",
    "model_type": "must be an object",
    "string_pattern_mismatch": "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -",
    "string_too_long": "must have at most 1,024 characters",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode: a surrogate stands alone in it",
}
"""Pydantic's error types in the words of the API."""


def read_records(document: Any) -> list[OrderRecord]:
    """The records of a request; else InvalidRecordsError lists the first MAX_FAULTS faults and counts them all."""
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_RECORDS:
        fault = Fault(None, None, f"must be an array of 1 to {MAX_RECORDS} records")
        raise InvalidRecordsError([fault], total=1)
    records: list[OrderRecord] = []
    faults: list[Fault] = []
    unlisted = 0
    first_index: dict[str, int] = {}
    for index, item in enumerate(document):
        if isinstance(item, AmbiguousObject):
            faults.append(Fault(index, shown(item.name), "is given twice"))
            continue
        known, unknown = sorted_out(item, OrderRecord.model_fields)
        try:
            record = OrderRecord.model_validate(known)
        except ValidationError as error:
            faults.extend(Fault(index, field, message) for field, message in field_faults(error, _MESSAGES))
        else:
            earlier = first_index.setdefault(record.record_id, index)
            if earlier != index:
                faults.append(Fault(index, "record_id", f"is that of the record with index {earlier}"))
            records.append(record)
        faults.extend(Fault(index, shown(name), "is not a field of a record") for name in unknown[:MAX_FAULTS])
        unlisted += len(unknown[MAX_FAULTS:])
    if faults:
        raise InvalidRecordsError(faults[:MAX_FAULTS], total=len(faults) + unlisted)
    return records
