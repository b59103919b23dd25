"""Airflow's four services, its database migration, and how to see that all of it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx

from local.layout import PROJECT_ROOT, PYTHON
from local.processes import Command, StackError

_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_POLL_SECONDS = 0.25


def migrate_command(environment: Mapping[str, str]) -> Command:
    """Create Airflow's tables."""
    return Command("migrate", [PYTHON, "-m", "airflow", "db", "migrate"], environment)


def api_server_command(environment: Mapping[str, str], *, host: str, port: int) -> Command:
    """The api-server: UI, public API, and the API that tasks talk to."""
    return _service("api-server", ["--host", host, "--port", str(port)], environment)


def background_commands(environment: Mapping[str, str]) -> list[Command]:
    """Scheduler, DAG processor and triggerer; they need the tables.

    The log servers that scheduler and triggerer would open listen on all interfaces and are not needed where
    all services read the same files: they stay off.
    """
    return [
        _service("scheduler", ["--skip-serve-logs"], environment),
        _service("dag-processor", [], environment),
        _service("triggerer", ["--skip-serve-logs"], environment),
    ]


def _service(name: str, options: list[str], environment: Mapping[str, str]) -> Command:
    # A short grace: a scheduler that is stopped waits for its running tasks, and here nobody wants to.
    return Command(name, [PYTHON, "-m", "airflow", name, *options], environment, grace=3.0)


def expected_dags(dags_folder: Path = PROJECT_ROOT / "dags") -> set[str]:
    """DAG ids that must be known: one a file (rule of the house: the file's name is the DAG's id)."""
    return {path.stem for path in dags_folder.glob("*.py")}


async def wait_for_components(client: httpx.AsyncClient) -> None:
    """Wait until database, scheduler, triggerer and DAG processor report themselves healthy."""
    while True:
        try:
            health = (await client.get("/api/v2/monitor/health")).json()
            if all((health.get(name) or {}).get("status") == "healthy" for name in _COMPONENTS):
                return
        except (httpx.HTTPError, ValueError):
            pass  # not listening yet: the watch on the process tells if it died
        await asyncio.sleep(_POLL_SECONDS)


async def wait_for_dags(client: httpx.AsyncClient, expected: set[str]) -> None:
    """Wait until every expected DAG is known.

    Raises:
        StackError: a file of dags/ cannot be imported; the message holds Airflow's stack trace.
    """
    token = (await client.get("/auth/token")).raise_for_status().json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    while True:
        errors = (await client.get("/api/v2/importErrors")).raise_for_status().json()["import_errors"]
        if errors:
            details = "\n".join(f"{item['filename']}:\n{item['stack_trace']}" for item in errors)
            raise StackError(f"{len(errors)} file(s) of dags/ cannot be imported: correct them\n{details}")
        listed = (await client.get("/api/v2/dags", params={"limit": 100})).raise_for_status().json()["dags"]
        if expected <= {dag["dag_id"] for dag in listed}:
            return
        await asyncio.sleep(_POLL_SECONDS)
