"""Commands that a deployment runs: of the project, of SAM, of git."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.release.bundle import ReleaseError


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands in one directory; what they print goes where the deployment's own output goes.

    Args:
        root: directory of the repository.
        environment: environment variables of the commands.
    """

    root: Path
    environment: Mapping[str, str]

    def run(self, arguments: Sequence[str]) -> None:
        """Run a command to its end.

        Raises:
            ReleaseError: it cannot be started, or its exit code is not 0.
        """
        try:
            done = subprocess.run(list(arguments), cwd=self.root, env=dict(self.environment), check=False)  # noqa: S603 - the deployment's own
        except OSError as error:
            raise ReleaseError(f"`{arguments[0]}` cannot be run ({error.strerror}): run `make setup`") from error
        if done.returncode != 0:
            raise ReleaseError(f"`{shlex.join(arguments)}` failed (exit code {done.returncode}); its output is above")

    def read(self, arguments: Sequence[str]) -> str:
        """What a command prints, without the end of its last line.

        Raises:
            ReleaseError: it cannot be started, or its exit code is not 0.
        """
        try:
            done = subprocess.run(  # noqa: S603 - the deployment's own
                list(arguments), cwd=self.root, env=dict(self.environment), check=False, capture_output=True, text=True
            )
        except OSError as error:
            raise ReleaseError(f"`{arguments[0]}` cannot be run ({error.strerror}): install it") from error
        if done.returncode != 0:
            raise ReleaseError(f"`{shlex.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")


def describe_tree(commands: Commands, *, must_be_clean: bool) -> str:
    """The commit that is deployed, with `+ local changes` where the tree is not that commit's.

    Raises:
        ReleaseError: there are local changes and there must not be, or this is no clone.
    """
    commit = commands.read(["git", "rev-parse", "--short=12", "HEAD"])
    changes = commands.read(["git", "status", "--porcelain"]).splitlines()
    if not changes:
        return commit
    if must_be_clean:
        shown = "\n".join(f"    {line}" for line in changes[:10])
        more = f"\n    and {len(changes) - 10} more" if len(changes) > 10 else ""
        raise ReleaseError(
            "prod is deployed from a commit only, and the tree differs from it; commit, or set aside (git stash -u):\n"
            f"{shown}{more}"
        )
    return f"{commit} + local changes"
