"""A record as callers send it. The OpenAPI document takes its schema from here."""

from __future__ import annotations

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Subnormal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

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
