"""Reads a project from its folder, once for all of its environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infra.release.airflow import Airflow, probe
from infra.release.configuration import airflow_options
from infra.release.errors import ReleaseError
from infra.release.packages import installed_packages
from infra.release.project import FOLDERS, TEXTS, Project
from infra.release.sources import source_files


def read_projects(root: Path, environments: Sequence[str]) -> list[Project]:
    """Read a project as each of some environments sees it, and have Airflow load it.

    Args:
        root: its root.
        environments: see :class:`infra.release.project.Project`.

    Raises:
        ReleaseError: a file is missing or cannot be read, or Airflow gives no answer.
    """
    files = {}
    for name in TEXTS:
        try:
            files[name] = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseError(f"{root / name} cannot be read ({error}): is {root} the project's root?") from error
    sources = {
        f"{folder}/{name}": content for folder in FOLDERS for name, content in source_files(root, folder).items()
    }
    packages = installed_packages()
    # Loading takes seconds, and comes out the same for environments with the same options.
    loaded: dict[tuple[tuple[str, str], ...], Airflow] = {}
    projects = []
    for environment in environments:
        options = airflow_options(files, environment)
        key = tuple(sorted(options.items()))
        if key not in loaded:
            loaded[key] = probe(sources, options)
        projects.append(Project(environment, files, sources, loaded[key], packages))
    return projects
