"""docs/DAGS.md is generated, and proven current here."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from airflow.dag_processing.dagbag import DagBag


@pytest.fixture(scope="module")
def generate(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", root / "docs" / "generate.py")
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dags_md_is_current(generate: ModuleType, dagbag: DagBag, root: Path) -> None:
    kept = (root / "docs" / "DAGS.md").read_text(encoding="utf-8")
    assert generate.difference(kept, generate.render(dagbag.dags)) == "", "run `make docs`"


def test_every_dag_param_and_task_is_in_it(generate: ModuleType, dagbag: DagBag) -> None:
    text = generate.render(dagbag.dags)
    assert dagbag.dags
    for dag in dagbag.dags.values():
        assert f"\n## {dag.dag_id}\n" in text
        for name in [*dag.params, *dag.task_ids]:
            assert f"| `{name}` | " in text
        for paragraph in (dag.doc_md or "").split("\n\n")[1:]:
            assert paragraph.strip() in text


def test_stale_text_is_shown_as_a_difference(generate: ModuleType) -> None:
    assert generate.difference("same\n", "same\n") == ""
    shown = generate.difference("Cron `0 5 * * *`\n", "Cron `0 6 * * *`\n")
    assert "-Cron `0 5 * * *`" in shown
    assert "+Cron `0 6 * * *`" in shown
