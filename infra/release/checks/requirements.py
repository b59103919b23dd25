"""``requirements.txt`` against the constraints and MWAA's image: an installation that fails there is only logged."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from infra.release.bundle import MWAA_PLUGINS
from infra.release.project import (
    CONSTRAINTS,
    LOCAL,
    REQUIREMENTS,
    Finding,
    Package,
    Project,
    bad,
    good,
    needs,
)

_CONSTRAINT_LINE = f'--constraint "{MWAA_PLUGINS}/constraints.txt"'
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[\w,.-]+\])?==(?P<version>[\w.!+-]+)")
_ADDRESS = re.compile(r"://|^git\+| @ |^-|\.whl$|^\.{0,2}/")


def constraint_line(project: Project) -> Iterator[Finding]:
    """The first line names the constraints that ``plugins.zip`` holds."""
    check = "requirements/constraint-line"
    first = (project.texts[REQUIREMENTS].splitlines() or [""])[0]
    if first == _CONSTRAINT_LINE:
        yield good(check, f"{REQUIREMENTS}:1", "names the constraints of the bundle")
    else:
        message = f"is {first!r}: without constraints of ours MWAA adds those of an Airflow that is not quite its own"
        yield bad(check, f"{REQUIREMENTS}:1", message, f"make the first line {_CONSTRAINT_LINE}")


def addresses(project: Project) -> list[Finding]:
    """No line fetches from an address or changes where packages come from."""
    check, change = "requirements/addresses", "pin a released version: name==version"
    why = "is an address or an option: MWAA may not reach it, and nobody reviews what lies there"
    wrong = [
        bad(check, f"{REQUIREMENTS}:{number}", f"{line!r} {why}", change)
        for number, line in _lines(project)
        if number > 1 and _ADDRESS.search(line)
    ]
    return wrong or [good(check, REQUIREMENTS, "no line holds an address or an option")]


def pins(project: Project) -> Iterator[Finding]:
    """Every package has one version: that of the constraints, or where they know none, that of the local stack."""
    check = "requirements/pins"
    for number, line in _lines(project):
        if number == 1 or _ADDRESS.search(line):
            continue
        where, pin = f"{REQUIREMENTS}:{number}", _PIN.fullmatch(line)
        if pin is None:
            yield bad(check, where, f"{line!r} is no exact version: each start may install another", "write ==version")
            continue
        name = canonicalize_name(pin["name"])
        known = next(
            ((path, found) for path in (CONSTRAINTS, LOCAL) if (found := _pinned(project, path).get(name))), None
        )
        if known is None:
            message = f"neither {CONSTRAINTS} nor {LOCAL} knows {name}: no test has run with it"
            yield bad(check, where, message, "add it to requirements/local.in, and run make lock")
        elif known[1] != pin["version"]:
            message = f"{name} {pin['version']} contradicts {known[1]} in {known[0]}: the installation fails"
            yield bad(check, where, message, f"write {pin['name']}=={known[1]}")
        else:
            yield good(check, where, f"{name} {pin['version']} is that of {known[0]}")


def image(project: Project) -> list[Finding]:
    """Nothing is listed that MWAA's image brings: another version would break it, the same is superfluous."""
    check = "requirements/image"
    brought = project.packages.closure(project.packages.image)
    wrong = [
        bad(check, f"{REQUIREMENTS}:{number}", f"MWAA's image brings {name} itself", "take the line out")
        for number, name, _ in listed(project)
        if name in brought
    ]
    return wrong or [good(check, REQUIREMENTS, "lists nothing that MWAA's image brings")]


def resolvable(project: Project) -> list[Finding]:
    """The pins, the constraints and what the packages need agree, by the metadata of the installed packages."""
    check = "requirements/resolvable"
    constraints, installed = _pinned(project, CONSTRAINTS), project.packages.installed
    wanted = {name: version for _, name, version in listed(project)}
    brought = project.packages.closure(project.packages.image)
    todo, seen, wrong = list(wanted), set(wanted), []
    while todo:
        name = todo.pop()
        package = installed.get(name)
        if package is None or package.version != wanted.get(name, constraints.get(name, package.version)):
            # Their own check tells of a pin that contradicts the constraints.
            if wanted.get(name) == constraints.get(name, wanted.get(name)):
                wrong.append(_not_installed(check, name, wanted.get(name) or constraints.get(name, ""), package))
            continue
        for need in needs(package, frozenset()):
            other = canonicalize_name(need.name)
            version = wanted.get(other) or constraints.get(other)
            if version is not None and not _fits(need, version):
                message = f"{name} {package.version} needs {need}, but {other} is held at {version}"
                change = f"choose a version of {name} that takes {other} {version}"
                wrong.append(bad(check, REQUIREMENTS, message, change))
            if other not in seen and other not in brought:
                seen.add(other)
                todo.append(other)
    return wrong or [good(check, REQUIREMENTS, f"all that {len(seen)} packages need fits the constraints")]


CHECKS = (constraint_line, addresses, pins, image, resolvable)


def listed(project: Project) -> Iterator[tuple[int, str, str]]:
    """The pinned packages: number of the line, normalized name, version."""
    for number, line in _lines(project):
        if pin := _PIN.fullmatch(line):
            yield number, canonicalize_name(pin["name"]), pin["version"]


def names(project: Project) -> list[str]:
    """Names of the packages, also of those without a version."""
    lines = (line for number, line in _lines(project) if number > 1 and not _ADDRESS.search(line))
    return [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line))]


def _lines(project: Project) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(project.texts[REQUIREMENTS].splitlines(), 1):
        if text := line.partition("#")[0].strip():
            yield number, text


def _pinned(project: Project, path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in project.texts[path].splitlines():
        if pin := _PIN.match(line.strip()):
            found[canonicalize_name(pin["name"])] = pin["version"]
    return found


def _fits(need: Requirement, version: str) -> bool:
    try:
        return need.specifier.contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidRequirement):
        return False


def _not_installed(check: str, name: str, version: str, package: Package | None) -> Finding:
    here = f"it is {package.version} here" if package else "it is not installed here"
    change = "run make setup; if it stays, add it to requirements/local.in and run make lock"
    return bad(check, REQUIREMENTS, f"what {name} {version} needs is not known: {here}", change)
