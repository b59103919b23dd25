"""The application template as text, and ways to look at it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from infra.release.templates import whole_template

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "infra/template.yaml"


@cache
def read_template() -> dict[str, Any]:
    """The template with its nested stacks in it, and every function in its long form; do not change it."""
    return whole_template(TEMPLATE, lambda path: (ROOT / path).read_text(encoding="utf-8"))


def resource(name: str) -> dict[str, Any]:
    properties = read_template()["Resources"][name]["Properties"]
    assert isinstance(properties, dict)
    return properties


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Resources of one type by logical id."""
    found = {name: item for name, item in read_template()["Resources"].items() if item["Type"] == kind}
    assert found, f"the template has no {kind}: the test would prove nothing"
    return found


def properties_of(kind: str) -> dict[str, dict[str, Any]]:
    """Properties of the resources of one type by logical id."""
    return {name: item["Properties"] for name, item in of_type(kind).items()}


def gateway_responses() -> dict[str, dict[str, Any]]:
    """What API Gateway answers by itself, by the kind of answer."""
    return {item["ResponseType"]: item for item in properties_of("AWS::ApiGateway::GatewayResponse").values()}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy statement, wherever it stands, with the logical id of its resource."""
    for name, item in read_template()["Resources"].items():
        for statement in _statements_in(item):
            yield name, statement


def statements_of(name: str) -> dict[str, dict[str, Any]]:
    """The policy statements of one resource by Sid."""
    return {statement["Sid"]: statement for owner, statement in statements() if owner == name}


def _statements_in(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield from part.get("Statement", [])
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _statements_in(inner)


def as_list(value: Any) -> list[Any]:
    """``value`` as IAM takes it: one, or a list of them."""
    return value if isinstance(value, list) else [value]
