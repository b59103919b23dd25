"""The house's rules that can be read off the sources: arrows go one way, and tests lie where their module lies."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = {
    "dags": "dags",
    "airflow_ext": "plugins/airflow_ext",
    "include": "include",
    "lambdas": "lambdas",
    "ops": "ops",
    "local": "local",
    "infra": "infra/release",
}
"""Name by which a layer is imported, and where it lies."""

MUST_NOT_IMPORT = {
    "dags": {"include", "lambdas", "local", "tests", "dags", "plugins"},
    "airflow_ext": {"dags", "lambdas", "local", "tests", "plugins"},
    "include": {"airflow", "airflow_ext", "dags", "lambdas", "local", "plugins", "tests"},
    "lambdas": {"airflow", "airflow_ext", "dags", "include", "local", "plugins", "tests"},
    "ops": {"airflow", "airflow_ext", "dags", "infra", "lambdas", "local", "plugins", "tests"},
    "local": {"airflow_ext", "dags", "lambdas", "plugins", "tests"},
    "infra": {"dags", "lambdas", "local", "plugins", "tests"},
}
"""Arrows: dags -> airflow_ext -> include -> libraries. The Lambdas, the local stack and the release's tools stand
beside them: the first share nothing with Airflow but the formats in S3, the others look at files and start commands."""

COMMAND_LINES = {"local", "ops", "release", "tools"}
"""Folders whose modules talk to people on a terminal."""

HEAVY = {"aiohttp", "boto3", "botocore", "httpx", "numpy", "pandas", "pymssql", "requests", "slack_sdk"}
"""Not at module level of what is imported while a DAG file is parsed."""

PARSE_TIME_PROVIDERS = {
    # Airflow's decorators load these anyway.
    "airflow.providers.standard",
    "airflow.providers.common.compat",
    # An operator must be there when a DAG is made, and this is the one that the watcher waits with.
    "airflow.providers.amazon.aws.sensors.s3",
}


@dataclass(frozen=True)
class Import:
    """One import of a module.

    Args:
        at_module_level: runs when the module is imported.
    """

    name: str
    line: int
    at_module_level: bool

    @property
    def top(self) -> str:
        """First part of the name."""
        return self.name.partition(".")[0]


def modules(layer: str) -> list[Path]:
    found = sorted(path for path in (ROOT / LAYERS[layer]).rglob("*.py") if ".local" not in path.parts)
    assert found, f"no modules in {LAYERS[layer]}: these tests would test nothing"
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> list[Import]:
    return list(_imports(tree(path), at_module_level=True))


def _imports(node: ast.AST, *, at_module_level: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_module_level)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}"
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", child.lineno, at_module_level)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for part in child.body:
                yield from _imports(ast.Module([part], []), at_module_level=False)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), at_module_level=at_module_level)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_module_level=at_module_level and not inside)


def parse_time_modules() -> list[Path]:
    """The DAG files, and what of airflow_ext they load at module level, directly or not."""
    found = dict.fromkeys(modules("dags"))
    waiting = list(found)
    while waiting:
        for imported in imports(waiting.pop()):
            if imported.at_module_level and imported.top == "airflow_ext":
                path = _source(imported.name)
                if path not in found:
                    found[path] = None
                    waiting.append(path)
    return list(found)


def _source(name: str) -> Path:
    """The file of an imported name, which is a module or something in one."""
    for dotted in (name, name.rpartition(".")[0]):
        base = ROOT / "plugins" / Path(*dotted.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    raise AssertionError(f"{name} is not to be found")


SOURCES = [(layer, path) for layer in LAYERS for path in modules(layer)]


def test_arrows_go_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} line {found.line}: {found.name}"
        for layer, path in SOURCES
        for found in imports(path)
        if found.top in MUST_NOT_IMPORT[layer]
    ]
    assert wrong == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Imports for types count too: two files that need each other's names are one thing in two places."""
    graph = {path: {found for item in imports(path) if (found := _file_of(item.name))} - {path} for _, path in SOURCES}
    assert sum(map(len, graph.values())) > len(graph), "hardly an import is seen: this test would test nothing"
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(str(path.relative_to(ROOT)) for path in error.args[1])
        pytest.fail(f"circle: {circle}")


def _file_of(name: str) -> Path | None:
    """The file of an imported name of this project; None for a library."""
    for base in (ROOT, ROOT / "plugins"):
        for dotted in (name, name.rpartition(".")[0]):
            path = base.joinpath(*dotted.split(".")).with_suffix(".py")
            if path.is_file():
                return path
    return None


MIRRORED = {
    "airflow_ext": "airflow_ext",
    "include": "",
    "infra": "infra",
    "lambdas": "lambdas",
    "local": "local",
    "ops": "ops",
}
"""Layer, and the folder of ``tests/unit`` that mirrors it."""


def test_unit_test_lies_where_its_module_lies() -> None:
    """``test_<module>.py``, or ``test_<module>_<aspect>.py``, in the same folder of the mirror."""
    unit = ROOT / "tests" / "unit"
    names = tuple(
        f"{unit.joinpath(MIRRORED[layer], path.parent.relative_to(ROOT / LAYERS[layer]), f'test_{path.stem}')}_"
        for layer, path in SOURCES
        if layer in MIRRORED
    )
    tests = list(unit.rglob("test_*.py"))
    assert tests
    assert [test for test in tests if not f"{test.with_suffix('')}_".startswith(names)] == []


def test_every_arrow_is_there_to_be_held() -> None:
    tops = {layer: {found.top for path in modules(layer) for found in imports(path)} for layer in LAYERS}
    assert "airflow_ext" in tops["dags"]
    assert "include" in tops["airflow_ext"]
    assert "aiohttp" in tops["include"]


def test_reader_of_imports_sees_them_all() -> None:
    source = """
from typing import TYPE_CHECKING
import a.b as c, d
if TYPE_CHECKING:
    import typed
else:
    import untyped
try:
    from e.f import g
except ImportError:
    import h
class C:
    import i
    def method(self):
        import late
async def coroutine():
    from later import x
"""
    found = list(_imports(ast.parse(source), at_module_level=True))
    early = {item.name for item in found if item.at_module_level}
    assert early == {"typing.TYPE_CHECKING", "a.b", "d", "untyped", "e.f.g", "h", "i"}
    assert {item.name for item in found if not item.at_module_level} == {"typed", "late", "later.x"}


def test_nothing_heavy_is_loaded_while_dags_are_parsed() -> None:
    paths = parse_time_modules()
    assert len(paths) > len(modules("dags")), "the DAGs use nothing of airflow_ext?"
    wrong = []
    for path in paths:
        for found in imports(path):
            provider = found.name.startswith("airflow.providers.") and not any(
                found.name.startswith(f"{name}.") for name in PARSE_TIME_PROVIDERS
            )
            domain = found.top == "include" and found.name.split(".")[1] not in ("alerts", "errors", "text")
            if found.at_module_level and (found.top in HEAVY or provider or domain):
                wrong.append(f"{path.relative_to(ROOT)} line {found.line}: {found.name}")
    assert wrong == []


def test_module_says_what_it_is() -> None:
    assert [path for _, path in SOURCES if not ast.get_docstring(tree(path))] == []


def test_nothing_is_printed() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for _, path in SOURCES
        if not COMMAND_LINES & set(path.relative_to(ROOT).parts)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_only_plugin_files_lie_where_airflow_executes_everything() -> None:
    """Airflow runs each .py under plugins/ by its bare name, unless .airflowignore keeps it off."""
    ignored = (ROOT / "plugins" / ".airflowignore").read_text().splitlines()
    patterns = {line.rstrip("/") for line in ignored if line and not line.startswith("#")}
    executed = [
        path for path in (ROOT / "plugins").rglob("*.py") if path.relative_to(ROOT / "plugins").parts[0] not in patterns
    ]
    assert executed
    for path in executed:
        classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        bases = {ast.unparse(base) for found in classes for base in found.bases}
        assert "AirflowPlugin" in bases, f"{path.name} is no plugin"


def test_constants_of_the_environment_stay_out_of_the_sources() -> None:
    """No address of a registry, no path of somebody's machine, no leftover note."""
    marks = ["/wo" + "rk/", "TO" + "DO", "FIX" + "ME", "pypi" + ".org", "/simple" + "/"]
    wrong = [f"{path.relative_to(ROOT)}: {mark}" for _, path in SOURCES for mark in marks if mark in path.read_text()]
    assert wrong == []
