"""Says what IAM would: whether policies allow a call. Knows the operators that the templates use, and no others."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tests.worlds.templates import texts

Context = Mapping[str, str | Sequence[str]]
"""Condition keys of a call with their values."""


def resolved(part: Any, values: Mapping[str, str]) -> Any:
    """A part of a template with its references replaced: of a parameter, a resource or a resource's attribute."""
    if isinstance(part, dict):
        if set(part) == {"Fn::Sub"}:
            text = part["Fn::Sub"]
            for name, value in values.items():
                text = text.replace(f"${{{name}}}", value)
            assert "${" not in text, text
            return text
        if set(part) in ({"Ref"}, {"Fn::GetAtt"}):
            (name,) = part.values()
            return values[name]
        return {key: resolved(value, values) for key, value in part.items()}
    return [resolved(item, values) for item in part] if isinstance(part, list) else part


def allows(statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context) -> bool:
    """Whether one statement allows a call on one resource (an ARN, or `*`) and none denies it."""
    effects = {item["Effect"] for item in statements if _applies(item, action, resource, context)}
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        any(fnmatchcase(action.lower(), pattern.lower()) for pattern in texts(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in texts(statement["Resource"]))
        and all(
            _holds(operator, context.get(key), texts(wanted))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, given: str | Sequence[str] | None, wanted: Sequence[str]) -> bool:
    if operator == "Null":
        return [str(given is None).lower()] == list(wanted)
    values = [] if given is None else [given] if isinstance(given, str) else list(given)
    if operator == "ForAllValues:StringNotEquals":
        return all(value not in wanted for value in values)
    assert operator in ("StringEquals", "StringLike", "ArnLike"), operator
    like = operator != "StringEquals"
    return any(fnmatchcase(value, item) if like else value == item for value in values for item in wanted)
