"""From a JSON document to records that can be stored, or to all that is wrong with it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from lambdas.common.body import AmbiguousObject
from lambdas.common.fields import MAX_FAULTS, field_faults, shown, sorted_out
from lambdas.orders_api.errors import Fault, InvalidRecordsError
from lambdas.orders_api.models import MAX_RECORDS, NUMBER_RULE, OrderRecord

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
    """The records of a request.

    Raises:
        InvalidRecordsError: some are not as they must be; it lists the first MAX_FAULTS faults and counts them all.
    """
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
