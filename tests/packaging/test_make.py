"""The Makefiles on machines of others: their shells, their folders, their settings of git."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest


def make(*arguments: str, at: Path, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["make", *arguments], cwd=at, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONIOENCODING"])
def test_what_the_shell_tells_its_own_python_reaches_none_here(root: Path, name: str) -> None:
    seen = make("--eval", "show: ; @env", "show", at=root, **{name: "theirs", "UV_INDEX_URL": "stays"}).splitlines()
    assert "UV_INDEX_URL=stays" in seen
    assert f"{name}=theirs" not in seen


def test_a_folder_with_a_space_is_one_word(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my clone"
    folder.mkdir()
    shutil.copy(root / "Makefile", folder)
    told = make("--dry-run", "--old-file", ".venv/.ready-dev", ".node/.ready", at=folder)
    (line,) = (line for line in told.splitlines() if "npm-cli.js" in line)
    (program,) = (word for word in shlex.split(line.removesuffix("\\")) if word.endswith("/npm-cli.js"))
    assert program.startswith(f"{folder}/.venv/")
    uv = f"{folder}/.venv/bin/uv"
    told = make("--dry-run", "build-AuctionResultsFunction", f"UV={uv}", "ARTIFACTS_DIR=/there", at=root / "lambdas")
    assert f'"{uv}" pip install' in told


def test_a_clone_with_the_line_ends_of_windows_still_has_those_of_a_shell(root: Path, tmp_path: Path) -> None:
    repository = ("git", "-C", str(tmp_path), "-c", "core.autocrlf=true")
    shutil.copy(root / ".gitattributes", tmp_path)
    script = tmp_path / "run"
    script.write_bytes((root / ".ci" / "run").read_bytes())
    for command in ("init --quiet", "add .", "checkout-index --all --prefix=out/"):
        subprocess.run([*repository, *command.split()], check=True, capture_output=True)
    assert (tmp_path / "out" / "run").read_bytes() == script.read_bytes()
