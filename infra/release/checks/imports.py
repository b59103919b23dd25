"""Everything imports, with what MWAA's image and ``requirements.txt`` bring, and the domain without Airflow."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache

from infra.release.checks.requirements import names
from infra.release.project import Finding, Project, bad, good

OWN = {"include", "airflow_ext"}
_PROVIDERS = "airflow.providers."


def dags(project: Project) -> Iterator[Finding]:
    """Every DAG file loads, and is the DAG of its name."""
    check = "imports/dags"
    for stem, file in project.airflow.dags.items():
        where = f"dags/{stem}.py"
        for error in file["errors"]:
            yield bad(check, where, f"cannot be loaded: {_last_line(error)}", "fix the file; Airflow would not show it")
        if not file["errors"] and list(file["dags"]) != [stem]:
            found = ", ".join(file["dags"]) or "no DAG"
            yield bad(check, where, f"defines {found}", f"define one DAG, with dag_id {stem}, or rename the file")
        elif not file["errors"]:
            yield good(check, where, "loads, and is the DAG of its name")
    if not project.airflow.dags:
        yield bad(check, "dags/", "holds no DAG file", "put the DAGs there")


def modules(project: Project) -> Iterator[Finding]:
    """Every module of plugins and domain imports, also those that no DAG imports while it is parsed."""
    check = "imports/modules"
    for name, error in project.airflow.modules.items():
        yield bad(check, name, f"cannot be imported: {error}", "fix the import, or add the package to requirements")
    if not project.airflow.modules:
        count = sum(path.endswith(".py") and not path.startswith("dags/") for path in project.sources)
        yield good(check, "plugins/, include/", f"all {count} modules import")


def packages(project: Project) -> Iterator[Finding]:
    """Nothing is imported that neither MWAA's image nor ``requirements.txt`` brings."""
    check, clean = "imports/packages", True
    brought = project.packages.closure([*project.packages.image, *names(project)])
    for path, line, module in _imports(project):
        top = module.partition(".")[0]
        if top in OWN or top in sys.stdlib_module_names or f"plugins/{top}.py" in project.sources:
            continue
        owners = _owners(project, module)
        if not owners & brought:
            clean = False
            yield bad(
                check,
                f"{path}:{line}",
                f"imports {module}, which neither MWAA's image nor requirements.txt brings",
                f"add {' or '.join(sorted(owners)) or top} to requirements.txt, or do without it",
            )
    if clean:
        yield good(check, "dags/, plugins/, include/", "import only what MWAA has")


def domain(project: Project) -> Iterator[Finding]:
    """The domain does not import Airflow or what mentions it."""
    check, clean = "imports/domain", True
    for path, line, module in _imports(project):
        if path.startswith("include/") and module.partition(".")[0] in ("airflow", "airflow_ext"):
            clean = False
            yield bad(check, f"{path}:{line}", f"imports {module}", "move what needs Airflow to plugins/airflow_ext")
    if clean:
        yield good(check, "include/", "knows nothing of Airflow")


CHECKS = (dags, modules, packages, domain)


def _owners(project: Project, module: str) -> set[str]:
    """The packages that bring a module; providers share the module ``airflow.providers`` and are named after theirs."""
    if module.startswith(_PROVIDERS):
        parts = module.removeprefix(_PROVIDERS).split(".")
        names = (f"apache-airflow-providers-{'-'.join(parts[:count])}" for count in (1, 2))
        return {name for name in names if name in project.packages.installed} or {
            f"apache-airflow-providers-{parts[0]}"
        }
    return set(project.packages.providers.get(module.partition(".")[0], ()))


def _imports(project: Project) -> Iterator[tuple[str, int, str]]:
    for path, content in project.sources.items():
        if path.endswith(".py"):
            for line, module in _imports_of(content):
                yield path, line, module


@cache
def _imports_of(source: bytes) -> tuple[tuple[int, str], ...]:
    try:
        return tuple(_imported(ast.parse(source)))
    except SyntaxError:
        # That it cannot be loaded is told by the checks above.
        return ()


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.lineno, child.module
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            # What only type checkers see is not there on MWAA.
            for other in child.orelse:
                yield from _imported(other)
        else:
            yield from _imported(child)


def _last_line(error: str) -> str:
    return next((line for line in reversed(error.splitlines()) if line.strip()), "no message").strip()
