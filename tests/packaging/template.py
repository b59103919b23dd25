"""The application template as text, and ways to look at it."""

from collections.abc import Iterator
from typing import Any

from tests.worlds import templates

ROOT = templates.INFRA.parent
TEMPLATE = "infra/template.yaml"


def read_template() -> dict[str, Any]:
    """The template with its nested stacks in it, and every function in its long form; do not change it."""
    return templates.load("template.yaml")


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
    return templates.properties_of(read_template(), kind)


def gateway_responses() -> dict[str, dict[str, Any]]:
    """What API Gateway answers by itself, by the kind of answer."""
    return {item["ResponseType"]: item for item in properties_of("AWS::ApiGateway::GatewayResponse").values()}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy statement, wherever it stands, with the logical id of its resource."""
    return templates.statements(read_template())


def statements_of(name: str) -> dict[str, dict[str, Any]]:
    """The policy statements of one resource by Sid."""
    return {statement["Sid"]: statement for owner, statement in statements() if owner == name}


def as_list(value: Any) -> list[Any]:
    """``value`` as IAM takes it: one, or a list of them."""
    return value if isinstance(value, list) else [value]
