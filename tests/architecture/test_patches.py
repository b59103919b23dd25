"""Tests patch libraries at their border, and nothing of ours: that comes in as an argument, or from outside.py."""

import ast
import importlib.util
from pathlib import Path

import pytest

OURS = frozenset({"airflow_ext", "dags", "include", "infra", "lambdas", "local", "ops", "tests", "benchmarks"})


def patched(tree: ast.Module) -> dict[int, str]:
    """What each ``setattr`` and ``patch`` of a test module replaces, by line: the name that a path of imports begins
    with, as far as the module says it.
    """
    sources: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            sources |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            sources |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            sources[node.name] = "tests"
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "object" and ast.unparse(node.func).endswith("patch.object"):
            called = "patch"
        if called not in ("setattr", "patch"):
            continue
        target = node.args[0]
        if isinstance(target, ast.Constant):
            found[node.lineno] = str(target.value)
        else:
            root, *rest = ast.unparse(target).split(".")
            found[node.lineno] = ".".join([sources.get(root, f"?{root}"), *rest])
    return found


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("monkeypatch.setattr('include.clients.http.MAX', 1)", True),
        ("from include.clients import http\nmonkeypatch.setattr(http, 'MAX', 1)", True),
        ("import include.clients.http as http\npatch.setattr(http.module, 'MAX', 1)", True),
        ("from unittest import mock\nwith mock.patch('airflow_ext.metrics.publish'):\n    pass", True),
        ("from unittest.mock import patch\nfrom local import x\npatch.object(x, 'y')", True),
        ("class Fake:\n    pass\nmonkeypatch.setattr(Fake, 'x', 1)", True),
        ("import pymssql\nmonkeypatch.setattr(pymssql, 'connect', 1)", False),
        ("monkeypatch.setattr('pymssql.connect', 1)", False),
    ],
)
def test_patch_of_ours_is_seen(code: str, ours: bool) -> None:
    assert any(map(is_ours, patched(ast.parse(code)).values())) is ours


def test_nothing_of_ours_is_patched(root: Path) -> None:
    found, seen = [], 0
    for path in sorted((root / "tests").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for line, target in patched(ast.parse(path.read_text())).items():
            seen += 1
            if is_ours(target):
                found.append(f"{name}:{line} {target}")
    assert seen > 5
    assert found == []


def test_packages_are_ours(root: Path) -> None:
    assert all((root / name).is_dir() or importlib.util.find_spec(name) for name in OURS)
