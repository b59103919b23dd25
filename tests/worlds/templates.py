"""Templates as data: read, searched for policies, and cut down to what the emulator can create."""

import re
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path
from typing import Any

from infra.release.templates import whole_template

INFRA = Path(__file__).resolve().parents[2] / "infra"

_IN_SUB = re.compile(r"\$\{(\w+)[.}]")


@cache
def load(name: str) -> dict[str, Any]:
    """A template of infra/ with its nested stacks in it, and every function in its long form; do not change it."""
    return whole_template(name, lambda path: (INFRA / path).read_text(encoding="utf-8"))


def properties_of(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Properties of the resources of one type by logical id; there must be some."""
    found = {name: item["Properties"] for name, item in template["Resources"].items() if item["Type"] == kind}
    assert found, f"the template has no {kind}: the test would prove nothing"
    return found


def statements(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy statement, wherever it stands, with the logical id of its resource."""
    for name, item in template["Resources"].items():
        for part in walk(item):
            if isinstance(part, dict) and "Effect" in part:
                yield name, part


def walk(part: Any) -> Iterator[Any]:
    """A value and all that is in it."""
    yield part
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from walk(inner)


def texts(value: Any) -> list[str]:
    """A value as IAM takes it, one or a list, as texts: of a function of CloudFormation, its argument."""
    items = value if isinstance(value, list) else [value]
    return [_text(item) for item in items]


def _text(item: Any) -> str:
    if isinstance(item, dict):
        return str(next(iter(item.values())))
    return str(item)


def without(template: dict[str, Any], kinds: Set[str], names: Set[str]) -> tuple[dict[str, Any], set[str]]:
    """A template without resources of some types and names, and without all that refers to one of them.

    Returns:
        The smaller template, and the logical ids of the resources that it lacks.
    """
    resources = dict(template["Resources"])
    gone = {name for name, item in resources.items() if item["Type"] in kinds or name in names}
    while more := {
        name
        for name, item in resources.items()
        if name not in gone and _refers({key: value for key, value in item.items() if key != "DependsOn"}, gone)
    }:
        gone |= more
    kept = {name: _independent(item, gone) for name, item in resources.items() if name not in gone}
    outputs = {name: item for name, item in template.get("Outputs", {}).items() if not _refers(item, gone)}
    return {**template, "Resources": kept, "Outputs": outputs}, gone


def _refers(part: Any, names: Set[str]) -> bool:
    return any(name in names for item in walk(part) if isinstance(item, dict) for name in _references(item))


def _references(item: dict[str, Any]) -> list[str]:
    if isinstance(item.get("Ref"), str):
        return [item["Ref"]]
    if "Fn::GetAtt" in item:
        return [item["Fn::GetAtt"].partition(".")[0]]
    if "Fn::Sub" in item:
        return _IN_SUB.findall(item["Fn::Sub"] if isinstance(item["Fn::Sub"], str) else item["Fn::Sub"][0])
    return []


def _independent(item: dict[str, Any], gone: Set[str]) -> dict[str, Any]:
    """A resource that does not wait for those that are gone."""
    waits = item.get("DependsOn", [])
    left = [name for name in ([waits] if isinstance(waits, str) else waits) if name not in gone]
    rest = {key: value for key, value in item.items() if key != "DependsOn"}
    return {**rest, "DependsOn": left} if left else rest
