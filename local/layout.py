"""Where the local stack keeps its state: one directory a stack, `.local` unless told otherwise."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_STATE_DIRECTORY = PROJECT_ROOT / ".local"
PYTHON = Path(sys.executable)
EMULATOR_VENV = PROJECT_ROOT / ".venv-aws"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths inside one state directory. Two stacks with different state directories share nothing."""

    root: Path

    @property
    def stack_file(self) -> Path:
        """What scripts read while the stack runs (addresses, names, process ids); exists only then."""
        return self.root / "stack.json"

    @property
    def failed_file(self) -> Path:
        """Why the last stack stopped by itself; removed by the next start."""
        return self.root / "failed.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor as long as it lives; holds its process id."""
        return self.root / "supervisor.lock"

    @property
    def environment_file(self) -> Path:
        """Shell file with Airflow's environment, secrets included (mode 0600)."""
        return self.root / "airflow.env"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.root / "logs"

    @property
    def airflow_home(self) -> Path:
        """Airflow's own directory (AIRFLOW_HOME)."""
        return self.root / "airflow"

    @property
    def client_database(self) -> Path:
        """SQLite file that stands for the client database (`dex_db`)."""
        return self.root / "dex_clients.sqlite"

    @property
    def build(self) -> Path:
        """What `sam build` made of the template and the functions."""
        return self.root / "build"

    def log(self, service: str) -> Path:
        """Log file of one service."""
        return self.logs / f"{service}.log"


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, all at once: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_private_json(path: Path, content: object) -> None:
    """`write_private` for a JSON document."""
    write_private(path, json.dumps(content, indent=2) + "\n")
