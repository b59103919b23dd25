"""What is generated of the APIs' documents is current, and generators of clients know every answer."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

GENERATED = (
    "docs/openapi/events_api.json",
    "docs/openapi/orders_api.json",
    "lambdas/events_api/docs.html",
    "lambdas/events_api/openapi.json",
)


def test_committed_documents_are_current(root: Path) -> None:
    command = [sys.executable, "docs/generate_openapi.py", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stale_documents_are_found(root: Path, tmp_path: Path) -> None:
    """The generator, in a copy of the project that has no committed documents."""
    shutil.copytree(root / "lambdas", tmp_path / "lambdas", ignore=shutil.ignore_patterns("docs.html", "openapi.json"))
    (tmp_path / "docs").mkdir()
    shutil.copy(root / "docs" / "generate_openapi.py", tmp_path / "docs")
    command = [sys.executable, "docs/generate_openapi.py"]
    stale = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    for name in GENERATED:
        assert f"{name} is not current: run `make docs`" in stale.stderr
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert subprocess.run([*command, "--check"], cwd=tmp_path, check=False).returncode == 0


@pytest.fixture(params=["events_api", "orders_api"])
def client(
    request: pytest.FixtureRequest, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], str]:
    """A document, and the package of the client that openapi-python-client makes of it without a warning."""
    name = request.param
    path = root / "docs" / "openapi" / f"{name}.json"
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"post_hooks: []\npackage_name_override: generated_{name}\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    arguments = ["--path", str(path), "--config", str(settings), "--output-path", str(tmp_path / f"generated_{name}")]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    return json.loads(path.read_text(encoding="utf-8")), f"generated_{name}"


def responses(document: dict[str, Any]) -> Iterator[tuple[str, str, int, Any]]:
    """Tag, operation, status and an example of every response that has a body."""
    for item in document["paths"].values():
        for operation in (each for name, each in item.items() if name != "parameters"):
            for status, response in operation["responses"].items():
                found = document["components"]["responses"].get(response.get("$ref", "").rpartition("/")[2], response)
                media = found.get("content", {}).get("application/json")
                examples = [each["value"] for each in media.get("examples", {}).values()] if media else []
                for example in examples or ([media["example"]] if media else []):
                    yield operation["tags"][0], operation["operationId"], int(status), example


def test_a_generated_client_knows_every_answer(client: tuple[dict[str, Any], str]) -> None:
    document, package = client
    made = importlib.import_module(f"{package}.client").Client(base_url="https://api.invalid")
    known = 0
    for tag, operation, status, example in responses(document):
        module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)
        api = importlib.import_module(f"{package}.api.{tag}.{module}")
        parsed = api._parse_response(client=made, response=httpx.Response(status, json=example))
        assert parsed is not None, f"{operation} drops {status}"
        assert set(parsed.to_dict()) == set(example)
        known += 1
    assert known >= 10
