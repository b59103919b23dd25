"""CloudFormation templates, read as they stand: every function in its long form, parameters by their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from infra.release.errors import ReleaseError

_NUMBER_OF_SETTING = re.compile(r'"(?P<name>\w+)":\s*(?P<value>-?\d+(\.\d+)?|\$\{\w+\})')


class _Loader(yaml.CSafeLoader):
    """Reads the short forms (``!Ref x``) as their long ones (``{"Ref": "x"}``)."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    return {name: node.value}


_Loader.add_multi_constructor("!", _long_form)


@cache
def parse_template(text: str, where: str) -> dict[str, Any]:
    """A template as a document; do not change it.

    Args:
        text: YAML.
        where: the file's name, for errors.

    Raises:
        ReleaseError: it is no YAML, or has no resources.
    """
    try:
        document = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ReleaseError(f"{where} is no YAML: {error}; cfn-lint says more") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise ReleaseError(f"{where} has no Resources: it is no CloudFormation template")
    return document


def parameter_values(template: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, str]:
    """Values of a template's parameters: the overrides, else their defaults; those without are left out."""
    defaults = {
        name: str(parameter["Default"])
        for name, parameter in template.get("Parameters", {}).items()
        if "Default" in parameter
    }
    return defaults | {name: value for name, value in overrides.items() if name in template.get("Parameters", {})}


def number(value: Any, parameters: Mapping[str, str]) -> float | None:
    """A property that is a number, or refers to a parameter that is one; None if it is neither."""
    if isinstance(value, dict):
        value = parameters.get(str(value.get("Ref")))
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def texts(values: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """Properties that are texts, with parameters by their values; those that refer to anything else are left out."""
    found = {}
    for name, value in values.items():
        text = parameters.get(value["Ref"]) if isinstance(value, dict) and "Ref" in value else value
        if isinstance(text, dict) and isinstance(text.get("Fn::Sub"), str):
            text = re.sub(r"\$\{(\w+)\}", lambda match: parameters.get(match[1], match[0]), text["Fn::Sub"])
        if isinstance(text, str) and "${" not in text:
            found[name] = text
    return found


def settings_in(secret: Any, parameters: Mapping[str, str]) -> dict[str, float]:
    """The numbers among the settings that a template writes.

    Args:
        secret: ``SecretString`` of the settings, a text or ``Fn::Sub`` of one.
        parameters: values of the template's parameters.
    """
    text = secret["Fn::Sub"] if isinstance(secret, dict) and "Fn::Sub" in secret else secret
    text = text[0] if isinstance(text, list) else text
    found: dict[str, float] = {}
    for match in _NUMBER_OF_SETTING.finditer(str(text)):
        value = match["value"]
        given = number({"Ref": value[2:-1]} if value.startswith("$") else value, parameters)
        if given is not None:
            found[match["name"]] = given
    return found
