"""What this interpreter has installed, and what of it MWAA would have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

IMAGE = Path(__file__).with_name("mwaa_image.txt")
"""What MWAA's image installs."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package.

    Args:
        version: of the package.
        requires: its dependencies, as its metadata states them.
    """

    version: str
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed.

    Args:
        installed: by normalized name.
        providers: names of the packages that bring a top-level module, by the module's name.
        image: what the image of MWAA is made of, as lines of a list of requirements.
    """

    installed: Mapping[str, Package]
    providers: Mapping[str, tuple[str, ...]]
    image: tuple[str, ...]

    def closure(self, lines: Iterable[str]) -> set[str]:
        """Normalized names of what is installed by lines of a list of requirements, with all that they need."""
        todo = [Requirement(line) for line in lines]
        seen: set[tuple[str, frozenset[str]]] = set()
        while todo:
            requirement = todo.pop()
            key = normalized(requirement.name), frozenset(requirement.extras)
            if key not in seen:
                seen.add(key)
                todo.extend(needs(self.installed.get(key[0]), key[1]))
        return {name for name, _ in seen}


def installed_packages() -> Packages:
    """What this interpreter has."""
    found = {
        normalized(each.metadata["Name"]): Package(each.version, tuple(each.requires or ())) for each in distributions()
    }
    providers = {name: tuple({*map(normalized, names)}) for name, names in packages_distributions().items()}
    image = [line.partition("#")[0].strip() for line in IMAGE.read_text().splitlines()]
    return Packages(found, providers, tuple(line for line in image if line))


def needs(package: Package | None, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a package needs on this interpreter; nothing is known of one that is not installed."""
    yield from _needs(package.requires, extras) if package else ()


@cache
def _needs(lines: tuple[str, ...], extras: frozenset[str]) -> tuple[Requirement, ...]:
    found = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.append(requirement)
    return tuple(found)


def normalized(name: str) -> str:
    """A package's name as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
