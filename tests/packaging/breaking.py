"""Ways to break one thing of a project."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from infra.release.project import TEMPLATE, Package, Project

Breaking = Callable[[Project], Project]


@dataclass(frozen=True)
class Case:
    """One thing broken: ``check`` alone is to fail, and its finding has the words of ``says``."""

    what: str
    check: str
    says: tuple[str, ...]
    broken: Breaking


def text(path: str, old: str, new: str) -> Breaking:
    def broken(project: Project) -> Project:
        changed, count = re.subn(old, new, project.texts[path], count=1, flags=re.MULTILINE)
        assert count == 1, f"{path} has no {old!r} to break"
        return replace(project, texts={**project.texts, path: changed})

    return broken


def source(path: str, content: str | bytes) -> Breaking:
    data = content.encode() if isinstance(content, str) else content
    return lambda project: replace(project, sources={**project.sources, path: data})


def without(path: str) -> Breaking:
    return lambda project: replace(project, sources={n: each for n, each in project.sources.items() if n != path})


def seen(field: str, *keys: str, value: Any) -> Breaking:
    """Airflow finds something else."""

    def broken(project: Project) -> Project:
        changed = _with(getattr(project.airflow, field), keys, value)
        return replace(project, airflow=replace(project.airflow, **{field: changed}))

    return broken


def _with(found: Any, keys: tuple[str, ...], value: Any) -> Any:
    if not keys:
        return value
    inner = found.get(keys[0]) if len(keys) == 1 else found[keys[0]]
    return {**found, keys[0]: _with(inner, keys[1:], value)}


def constant(name: str, value: float) -> Breaking:
    def broken(project: Project) -> Project:
        assert name in project.airflow.constants, name
        return seen("constants", name, value=value)(project)

    return broken


def dag(dag_id: str, field: str, value: float | None) -> Breaking:
    return seen("dags", dag_id, "dags", dag_id, field, value=value)


def task(dag_id: str, task_id: str, field: str, value: float | None) -> Breaking:
    return seen("dags", dag_id, "dags", dag_id, "tasks", task_id, field, value=value)


def setting(name: str, value: int) -> Breaking:
    return text(TEMPLATE, rf'("{name}": )\d+', rf"\g<1>{value}")


def resource(stack: str, name: str, field: str, value: int) -> Breaking:
    return text(f"infra/stacks/{stack}.yaml", rf"(^  {name}:\n(?:    .*\n|\n)*?      {field}: )\S+", rf"\g<1>{value}")


def requires(package: str, *needs: str) -> Breaking:
    def broken(project: Project) -> Project:
        known = project.packages.installed
        changed = {**known, package: Package(known[package].version, needs)}
        return replace(project, packages=replace(project.packages, installed=changed))

    return broken


def forget(package: str) -> Breaking:
    def broken(project: Project) -> Project:
        kept: Mapping[str, Package] = {n: each for n, each in project.packages.installed.items() if n != package}
        return replace(project, packages=replace(project.packages, installed=kept))

    return broken


def without_ignored(line: str) -> Breaking:
    path = "plugins/.airflowignore"
    return lambda project: source(path, project.sources[path].replace(f"{line}\n".encode(), b""))(project)
