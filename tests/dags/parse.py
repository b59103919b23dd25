"""Parses every DAG file in this process, where nothing may be read, and tells what was loaded and touched.

Run as ``python -m tests.dags.parse FOLDER LAST``; prints a JSON object.
"""

import importlib.util
import json
import socket
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseHook, Connection, Variable

touched: list[str] = []


def forbid(owner: Any, name: str) -> None:
    """Record and refuse every use of ``owner.name``."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        touched.append(f"{getattr(owner, '__name__', owner)}.{name}")
        raise RuntimeError(f"{name} was used while a DAG file was parsed")

    setattr(owner, name, refuse)


def main(folder: Path, last: str) -> None:
    """Parse every file, that of the DAG ``last`` after all others, and print what happened."""
    forbid(Variable, "get")
    forbid(Connection, "get")
    forbid(BaseHook, "get_connection")
    forbid(BaseHook, "get_hook")
    forbid(socket, "getaddrinfo")
    forbid(socket.socket, "connect")
    before = set(sys.modules)
    dag_ids, before_last = [], before
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.stem == last, path.stem)):
        if path.stem == last:
            before_last = set(sys.modules)
        spec = importlib.util.spec_from_file_location(f"parsed_{path.stem}", path)
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # What a decorated function returned is collected by Airflow; here its factory is called once more.
        dag_ids.append(path.stem)
        assert any(isinstance(value, DAG) or callable(value) for value in vars(module).values())
    modules = {"modules": sorted(set(sys.modules) - before), "before_last": sorted(before_last - before)}
    json.dump({"dag_ids": dag_ids, "touched": touched, **modules}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
