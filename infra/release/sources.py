"""Which files belong to a release, and which commit they come from."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.release.errors import ReleaseError


@dataclass(frozen=True, slots=True)
class Revision:
    """Where the sources come from.

    Args:
        commit: full hash; None without a git repository.
        dirty: whether the sources differ from the commit; None without a git repository.
    """

    commit: str | None
    dirty: bool | None


def source_files(project: Path, folder: str) -> dict[str, bytes]:
    """The files of a folder of the project that its ``.gitignore`` files do not exclude.

    Git is asked through an empty repository made for that, so that the answer is the same in a clone, in a source
    archive without a repository, and whatever the user's own excludes say. A file not yet added belongs to it.

    Args:
        project: the project's root.
        folder: name of a folder in it.

    Returns:
        contents by path relative to the folder, with ``/`` between its parts.

    Raises:
        ReleaseError: there are no such files, one is not a regular file, or git is missing.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        _git("init", "--quiet", "--bare", "--template=", scratch, at=project)
        where = (f"--git-dir={scratch}", f"--work-tree={project}")
        listed = _git(
            *where, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore", "--", folder, at=project
        )
    names = [name for name in listed.split("\0") if name]
    if not names:
        raise ReleaseError(f"{project / folder} holds no files: is {project} the project's root?")
    for name in names:
        path = project / name
        if path.is_symlink() or not path.is_file():
            raise ReleaseError(f"{path} is not a regular file: put the file itself there")
    return {name.removeprefix(f"{folder}/"): (project / name).read_bytes() for name in sorted(names)}


def revision(project: Path) -> Revision:
    """The commit that the project is checked out from.

    Args:
        project: the project's root; a repository further up is none of it.

    Raises:
        ReleaseError: git is missing, or the repository cannot be read.
    """
    if not (project / ".git").exists():
        return Revision(None, None)
    commit = _git("rev-parse", "HEAD", at=project).strip()
    return Revision(commit, bool(_git("status", "--porcelain", at=project)))


def _git(*arguments: str, at: Path) -> str:
    # A hook's or a shell's GIT_DIR would point elsewhere; and looking must not lock the user's index.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(  # noqa: S603 - arguments of ours, no shell
            ["git", *arguments],  # noqa: S607 - git lies where the user's path says
            cwd=at,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError as error:
        raise ReleaseError(f"cannot run git in {at}: install git, or name an existing folder") from error
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]} failed in {at}: {done.stderr.strip()}")
    return done.stdout
