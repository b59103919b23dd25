"""What a deployment's steps are made of, and how they are shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is, what exactly it does (commands and targets, a line each), and the doing."""

    title: str
    details: Sequence[str]
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Files and programs of a deployment.

    Args:
        sam: the SAM CLI.
        sam_config: infra/samconfig.toml.
        application_template: infra/template.yaml.
        airflow_template: infra/mwaa.yaml.
        build: folder that `sam build` fills.
        bundle: folder that infra.release.bundle fills.
    """

    sam: Path
    sam_config: Path
    application_template: Path
    airflow_template: Path
    build: Path
    bundle: Path


def shown(command: Sequence[str]) -> str:
    """A command as it could be typed in the repository's root."""
    root = f"{Path.cwd()}/"
    return shlex.join(part.removeprefix(root) for part in command)


def name_of(template: Path) -> str:
    """A template as people name it, with its folder."""
    return f"{template.parent.name}/{template.name}"


def pairs(parameters: Mapping[str, str]) -> str:
    """Parameters as they stand in infra/samconfig.toml."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
