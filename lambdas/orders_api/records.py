"""From a JSON document to records that can be stored, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from lambdas.orders_api.body import AmbiguousObject
from lambdas.orders_api.errors import Fault, InvalidRecordsError
from lambdas.orders_api.models import MAX_RECORDS, NUMBER_RULE, OrderRecord

MAX_FAULTS = 20
"""Listed in an answer. Who sends so many wrong records repeats one mistake."""

_SHOWN_CHARACTERS = 64

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
            faults.append(Fault(index, _shown(item.name), "is given twice"))
            continue
        known, unknown = _sorted_out(item)
        try:
            record = OrderRecord.model_validate(known)
        except ValidationError as error:
            faults.extend(_faults(index, error))
        else:
            earlier = first_index.setdefault(record.record_id, index)
            if earlier != index:
                faults.append(Fault(index, "record_id", f"is that of the record with index {earlier}"))
            records.append(record)
        faults.extend(Fault(index, _shown(name), "is not a field of a record") for name in unknown[:MAX_FAULTS])
        unlisted += len(unknown[MAX_FAULTS:])
    if faults:
        raise InvalidRecordsError(faults[:MAX_FAULTS], total=len(faults) + unlisted)
    return records


def _sorted_out(item: Any) -> tuple[Any, list[str]]:
    """The item without the fields that a record does not have, and the names of those.

    A body has room for half a million of them, and pydantic would make an error of each.
    """
    if not isinstance(item, dict):
        return item, []
    known = {name: item[name] for name in OrderRecord.model_fields if name in item}
    return known, [name for name in item if name not in known]


def _faults(index: int, error: ValidationError) -> Iterator[Fault]:
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        field = _shown(str(found["loc"][0])) if found["loc"] else None
        yield Fault(index, field, _MESSAGES.get(found["type"], found["msg"].removeprefix("Value error, ")))


def _shown(name: str) -> str:
    """A field's name as an answer may hold it: short, and Unicode."""
    whole = name.encode(errors="replace").decode()
    return whole if len(whole) <= _SHOWN_CHARACTERS else f"{whole[:_SHOWN_CHARACTERS]}…"
