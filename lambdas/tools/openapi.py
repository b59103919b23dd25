"""Pieces of OpenAPI documents that the APIs have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

REQUEST_ID = "2f9a6b1c-6b1e-4a51-9a43-0d1b6c2f7e10"
"""Of the examples."""

TEXT = {"type": "string"}
NO_DETAILS = {"type": "array", "maxItems": 0}


def json_object(**members: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that has these members and no other."""
    return {"type": "object", "required": list(members), "additionalProperties": False, "properties": members}


def array(items: Mapping[str, Any], *, most: int) -> dict[str, Any]:
    """The schema of an array of at least one of these."""
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items}


def error_schema(codes: Sequence[str], details: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an error's body."""
    return json_object(
        error=json_object(
            code={"type": "string", "enum": codes},
            message=TEXT,
            details=details,
            request_id={**TEXT, "description": "By which the logs find the request."},
        )
    )


def headers(*names: str) -> dict[str, Any]:
    """An answer's headers."""
    return {name: {"schema": TEXT} for name in names}


def json_content(schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A body, with its ``example`` or ``examples``."""
    return {"application/json": {"schema": schema, **more}}
