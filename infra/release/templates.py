"""CloudFormation templates, read as they stand: every function in its long form, nested stacks in their places."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml

from infra.release.bundle import ReleaseError

NESTED = "AWS::CloudFormation::Stack"

_IN_TEXT = re.compile(r"\$\{([\w.:]+)\}")


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
    """One template as a document, not to be changed; ReleaseError if it is no YAML, or has no resources."""
    try:
        document = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ReleaseError(f"{where} is no YAML: {error}; cfn-lint says more") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise ReleaseError(f"{where} has no Resources: it is no CloudFormation template")
    return document


def whole_template(path: str, read: Callable[[str], str]) -> dict[str, Any]:
    """A template with the resources of its nested stacks among its own, as if it had been written in one file.

    What a nested stack is given stands for its parameters, and what its outputs hold for references to them.

    Args:
        path: the template's file; nested templates are relative to it.
        read: gives the text of a file.

    Raises:
        ReleaseError: a file is malformed or not there, a nested stack has no such output or lacks a parameter, or two
            files have resources or conditions of one name.
    """
    template = parse_template(read(path), path)
    merged: dict[str, dict[str, Any]] = {"Resources": {}, "Conditions": {}}
    known: dict[str, Any] = {}
    # In the order of the file, so a stack stands after those whose outputs it takes.
    for name, item in template["Resources"].items():
        if item["Type"] != NESTED:
            continue
        nested_path = posixpath.normpath(posixpath.join(posixpath.dirname(path), item["Properties"]["TemplateURL"]))
        try:
            nested = whole_template(nested_path, read)
        except (KeyError, OSError) as error:
            raise ReleaseError(f"{path} has a stack {name} of {nested_path}, which cannot be read: {error}") from error
        given = _resolved(item["Properties"].get("Parameters", {}), known, path)
        parameters = _parameters(nested.get("Parameters", {}), given, f"{name} in {path}")
        for section, found in merged.items():
            for key, value in _resolved(nested.get(section, {}), parameters, nested_path).items():
                _add(found, key, _under(item, value) if section == "Resources" else value, nested_path)
        outputs = _resolved(nested.get("Outputs", {}), parameters, nested_path)
        known |= {f"{name}.Outputs.{key}": output["Value"] for key, output in outputs.items()}
    for section, found in merged.items():
        for key, value in _resolved(template.get(section, {}), known, path).items():
            if section == "Conditions" or value["Type"] != NESTED:
                _add(found, key, value, path)
    merged["Outputs"] = _resolved(template.get("Outputs", {}), known, path)
    return {**template, **{section: found for section, found in merged.items() if found}}


def _add(found: dict[str, Any], key: str, value: Any, where: str) -> None:
    if found.get(key, value) != value:
        raise ReleaseError(f"{where}: another file has {key} already; give it a name of its own")
    found[key] = value


def _under(stack: Mapping[str, Any], item: Any) -> Any:
    """A resource of a nested stack, which is there only while its stack is."""
    return {"Condition": stack["Condition"], **item} if "Condition" in stack else item


def _parameters(wanted: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What stands for the parameters of a nested stack."""
    lacking = [name for name, item in wanted.items() if name not in given and "Default" not in item]
    if lacking or set(given) - set(wanted):
        raise ReleaseError(f"{where}: parameters {lacking} are missing, {sorted(set(given) - set(wanted))} unknown")
    values = {name: given.get(name, item.get("Default")) for name, item in wanted.items()}
    for name, value in values.items():
        # A list is handed to a stack as its text.
        if wanted[name]["Type"].startswith(("Comma", "List")) and isinstance(value, dict) and "Fn::Join" in value:
            values[name] = value["Fn::Join"][1]
    return values


def _resolved(part: Any, known: Mapping[str, Any], where: str) -> Any:
    """A part of a template with what is known in place of references to it."""
    if isinstance(part, list):
        return [_resolved(item, known, where) for item in part]
    if not isinstance(part, dict):
        return part
    if part.keys() & {"Ref", "Fn::GetAtt"} and len(part) == 1:
        (name,) = part.values()
        name = ".".join(name) if isinstance(name, list) else name
        if ".Outputs." in name and name not in known:
            raise ReleaseError(f"{where}: there is no {name}, or it comes after what takes it")
        return known.get(name, part)
    if set(part) == {"Fn::Sub"}:
        text, own = part["Fn::Sub"] if isinstance(part["Fn::Sub"], list) else (part["Fn::Sub"], {})
        text = _IN_TEXT.sub(lambda match: _in_text(known, match[1], where) if match[1] not in own else match[0], text)
        return {"Fn::Sub": [text, _resolved(own, known, where)] if own else text}
    return {key: _resolved(value, known, where) for key, value in part.items()}


def _in_text(known: Mapping[str, Any], name: str, where: str) -> str:
    value = known.get(name)
    if ".Outputs." in name and value is None:
        raise ReleaseError(f"{where}: there is no {name}, or it comes after what takes it")
    if value is None:
        return f"${{{name}}}"
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function in ("Ref", "Fn::GetAtt"):
        return f"${{{'.'.join(argument) if isinstance(argument, list) else argument}}}"
    if function == "Fn::Sub" and isinstance(argument, str):
        return argument
    raise ReleaseError(f"{where}: {name} is {function}, which has no form within a text")


def refusals(template: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    """What CloudFormation would refuse of values for a template's parameters, and names of which there is no parameter.

    Of all its functions this knows those that the rules of our templates use.
    """
    declared = template["Parameters"]
    for name, value in given.items():
        if name not in declared:
            near = get_close_matches(name, declared, 1)
            yield f"there is no parameter {name}" + (f"; {near[0]} is one" if near else "")
        elif not _takes(declared[name], value):
            keys = ("Type", "AllowedValues", "AllowedPattern", "MinValue", "MaxValue")
            limits = ", ".join(f"{key} {declared[name][key]}" for key in keys if key in declared[name])
            yield f"{name} is {value!r}: it {declared[name].get('ConstraintDescription', f'must have {limits}')}"
    values = {name: str(item["Default"]) for name, item in declared.items() if "Default" in item} | dict(given)
    for rule in template.get("Rules", {}).values():
        if _outcome(rule.get("RuleCondition", True), values):
            wrong = (item for item in rule["Assertions"] if not _outcome(item["Assert"], values))
            yield from (item["AssertDescription"] for item in wrong)


def _takes(parameter: Mapping[str, Any], value: str) -> bool:
    if value not in map(str, parameter.get("AllowedValues", [value])):
        return False
    if parameter["Type"] != "Number":
        return re.fullmatch(parameter.get("AllowedPattern", r"[\s\S]*"), value) is not None
    try:
        number = float(value)
    except ValueError:
        return False
    return bool(parameter.get("MinValue", number) <= number <= parameter.get("MaxValue", number))


_OUTCOMES: Mapping[str, Callable[[list[Any]], bool]] = {
    "Fn::And": all,
    "Fn::Equals": lambda found: found[0] == found[1],
    "Fn::Not": lambda found: not found[0],
    "Fn::Or": any,
}


def _outcome(part: Any, values: Mapping[str, str]) -> Any:
    """A condition of a rule, or what it compares."""
    if not isinstance(part, dict):
        return part
    ((function, argument),) = part.items()
    if function == "Ref":
        return values.get(argument)
    return _OUTCOMES[function]([_outcome(item, values) for item in argument])
