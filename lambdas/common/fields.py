"""What is wrong with the fields of an object that a caller sent, in the words of the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_FAULTS = 20
"""Listed in an answer. Who sends so many wrong fields repeats one mistake."""

_SHOWN_CHARACTERS = 64


def sorted_out(item: Any, fields: Iterable[str]) -> tuple[Any, list[str]]:
    """The item without the fields that it should not have, and the names of those.

    A body has room for half a million of them, and pydantic would make an error of each.
    """
    if not isinstance(item, dict):
        return item, []
    known = {name: item[name] for name in fields if name in item}
    return known, [name for name in item if name not in known]


def field_faults(error: ValidationError, messages: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    """Field and message of each thing that pydantic found.

    Args:
        error: of a model whose validators raise ValueErrors with messages for the caller.
        messages: by pydantic's type of error, or by ``<field>.<type>`` where the fields differ.
    """
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(found["loc"][0]) if found["loc"] else None
        kind = found["type"]
        own = messages.get(f"{field}.{kind}") or messages.get(kind)
        yield shown(field) if field else None, own or found["msg"].removeprefix("Value error, ")


def shown(name: str) -> str:
    """A field's name as an answer may hold it: short, and Unicode."""
    whole = name.encode(errors="replace").decode()
    return whole if len(whole) <= _SHOWN_CHARACTERS else f"{whole[:_SHOWN_CHARACTERS]}…"
