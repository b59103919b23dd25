"""DynamoDB's expressions, as far as this project writes them: conditions, filters, and changes of an item."""

import re
from operator import ge, gt, le, lt
from typing import Any

Attributes = dict[str, dict[str, Any]]
"""Of an item, with their types."""

_TOKEN = re.compile(r"\(|\)|<>|<=|>=|=|<|>|[^\s()=<>]+")


def holds(condition: str, item: Attributes, request: dict[str, Any]) -> bool:
    """Whether an item fits a condition or a filter."""
    if not condition:
        return True
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    tokens = _TOKEN.findall(condition)

    def attribute(name: str) -> dict[str, Any] | None:
        return item.get(names[name] if name.startswith("#") else name)

    def either() -> bool:
        found = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            found = one() and found
        return found

    def one() -> bool:
        first = tokens.pop(0)
        if first == "NOT":
            return not one()
        if first == "(":
            found = either()
            assert tokens.pop(0) == ")"
            return found
        if first in ("attribute_exists", "attribute_not_exists"):
            _, name, _ = tokens.pop(0), tokens.pop(0), tokens.pop(0)
            return (attribute(name) is not None) is (first == "attribute_exists")
        there, operator = attribute(first), tokens.pop(0)
        if operator == "BETWEEN":
            low, _, high = values[tokens.pop(0)], tokens.pop(0), values[tokens.pop(0)]
            assert plain(low) <= plain(high), "DynamoDB refuses such a condition"
            return there is not None and plain(low) <= plain(there) <= plain(high)
        other = values[tokens.pop(0)]
        if there is None:
            return operator == "<>"
        if operator in ("=", "<>"):
            return (there == other) is (operator == "=")
        comparison = {"<": lt, "<=": le, ">": gt, ">=": ge}[operator]
        return bool(comparison(plain(there), plain(other)))

    found = either()
    assert not tokens, condition
    return found


def plain(attribute: dict[str, Any]) -> Any:
    return int(attribute["N"]) if "N" in attribute else attribute["S"]


def updated(item: Attributes, request: dict[str, Any]) -> Attributes:
    names, values = request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"]
    sets, _, removed = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    changed = {name: value for name, value in item.items() if name not in removed.split(", ")}

    def value_of(text: str) -> dict[str, Any]:
        if kept := re.fullmatch(r"if_not_exists\((\S+), (\S+)\)", text):
            return item.get(names.get(kept[1], kept[1]), values[kept[2]])
        return values[text] if text.startswith(":") else item[names.get(text, text)]

    for name, text in re.findall(r"([^\s,]+) = ((?:if_not_exists\(.+?\)|[^,])+)", sets):
        old, plus, added = text.strip().partition(" + ")
        value = value_of(old)
        if plus:
            value = {"N": str(int(value["N"]) + int(value_of(added)["N"]))}
        changed[names.get(name, name)] = value
    return changed
