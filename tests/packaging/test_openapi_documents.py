"""docs/openapi is generated, and proven current here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_committed_documents_are_current(root: Path) -> None:
    command = [sys.executable, "docs/generate_openapi.py", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stale_documents_are_found(root: Path, tmp_path: Path) -> None:
    """The generator, in a copy of the project that has no committed documents."""
    for part in ("docs/generate_openapi.py", "lambdas"):
        target = tmp_path / part
        target.parent.mkdir(exist_ok=True)
        if not (root / part).is_dir():
            target.write_bytes((root / part).read_bytes())
        else:
            target.symlink_to(root / part)
    command = [sys.executable, "docs/generate_openapi.py"]
    stale = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    for name in ("events_api", "orders_api"):
        assert f"docs/openapi/{name}.json is not current: run `make docs`" in stale.stderr
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert subprocess.run([*command, "--check"], cwd=tmp_path, check=False).returncode == 0
