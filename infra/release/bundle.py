"""Writes what MWAA takes of a release into a folder: the same bytes from the same sources, wherever it is built.

MWAA unpacks ``plugins.zip`` into ``/usr/local/airflow/plugins``, which is on ``sys.path`` of every component; ``dags/``
is not on that of the triggerer and of the API server. So the archive holds all that is imported: the content of
``plugins/``, beside it ``include/``, and the constraints that the first line of ``requirements.txt`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path


class ReleaseError(Exception):
    """The release cannot be made. The message says what is wrong and what to do about it."""


def source_files(project: Path, folder: str) -> dict[str, bytes]:
    """The files of a folder of the project that its ``.gitignore`` files do not exclude.

    Git is asked through an empty repository made for that, so that the answer is the same in a clone, in a source
    archive without a repository, and whatever the user's own excludes say. A file not yet added belongs to it.

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


def revision(project: Path) -> tuple[str | None, bool | None]:
    """The commit that the project is checked out from, and whether the sources differ from it; see :class:`Manifest`.

    A repository further up is none of the project's root.

    Raises:
        ReleaseError: git is missing, or the repository cannot be read.
    """
    if not (project / ".git").exists():
        return None, None
    commit = _git("rev-parse", "HEAD", at=project).strip()
    return commit, bool(_git("status", "--porcelain", at=project))


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


PROJECT = Path(__file__).resolve().parents[2]
ARCHIVE = "plugins.zip"
REQUIREMENTS = "requirements.txt"
MANIFEST = "manifest.json"
MWAA_PLUGINS = "/usr/local/airflow/plugins"
"""Where MWAA unpacks the archive."""

_CONSTRAINT = re.compile(rf'--constraint "{MWAA_PLUGINS}/(?P<name>[\w.-]+\.txt)"')
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest moment that an archive can hold."""

_FILE_MODE = 0o100644
_UNIX = 3


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds and where it came from; ``manifest.json`` beside the files that it names.

    Args:
        commit: the full hash of the commit that the sources were checked out from; None without a git repository.
        dirty: whether the sources differ from that commit; None without a git repository.
        files: SHA-256 in hexadecimal by path relative to the bundle's folder, of all files but the manifest itself.
    """

    commit: str | None
    dirty: bool | None
    files: dict[str, str]


def write_bundle(project: Path, folder: Path) -> Manifest:
    """Build the bundle, and replace the folder, if it is an earlier bundle or empty, once it is complete.

    The project's root may have a git repository.

    Raises:
        ReleaseError: the sources do not make a bundle, or the folder holds something else; it is left as it was.
    """
    if folder.exists() and not _may_be_replaced(folder):
        raise ReleaseError(f"{folder} is not an earlier bundle and will not be replaced: name another folder")
    # Before a folder is made within what is no project.
    constraints_name(project)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".dist-", dir=folder.parent) as scratch:
        new = Path(scratch) / "bundle"
        manifest = _write(project, new)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return manifest


def constraints_name(project: Path) -> str:
    """The name under which the archive must hold the constraints, by the first line of ``requirements.txt``.

    Raises:
        ReleaseError: the line names no file that the archive could bring.
    """
    first = (_read(project, REQUIREMENTS).decode().splitlines() or [""])[0]
    found = _CONSTRAINT.fullmatch(first)
    if found is None:
        raise ReleaseError(
            f"{REQUIREMENTS}: the first line is {first!r}, and MWAA would add other constraints: "
            f'make it --constraint "{MWAA_PLUGINS}/constraints.txt"'
        )
    return found["name"]


def _may_be_replaced(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))


def _write(project: Path, folder: Path) -> Manifest:
    contents = {f"dags/{name}": body for name, body in source_files(project, "dags").items()}
    contents[REQUIREMENTS] = _read(project, REQUIREMENTS)
    for name, body in contents.items():
        _put(folder / name, body)
    with zipfile.ZipFile(folder / ARCHIVE, "x") as archive:
        for name, body in sorted(_archived(project).items()):
            archive.writestr(_entry(name), body)
    contents[ARCHIVE] = (folder / ARCHIVE).read_bytes()
    digests = {name: sha256(body).hexdigest() for name, body in sorted(contents.items())}
    manifest = Manifest(*revision(project), digests)
    _put(folder / MANIFEST, f"{json.dumps(asdict(manifest), indent=2)}\n".encode())
    return manifest


def _archived(project: Path) -> dict[str, bytes]:
    """What the archive holds, by name."""
    found = source_files(project, "plugins")
    beside = {f"include/{name}": body for name, body in source_files(project, "include").items()}
    constraints = constraints_name(project)
    beside[constraints] = _read(project, f"requirements/{constraints}")
    if twice := sorted(found.keys() & beside.keys()):
        raise ReleaseError(f"plugins/{twice[0]} would lie where another file of the bundle does: rename it")
    return found | beside


def _entry(name: str) -> zipfile.ZipInfo:
    # Stored, because what a compressor makes depends on its version, and the sources are small.
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = _UNIX
    entry.external_attr = _FILE_MODE << 16
    return entry


def _put(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def _read(project: Path, name: str) -> bytes:
    try:
        return (project / name).read_bytes()
    except OSError as error:
        raise ReleaseError(
            f"{project / name} cannot be read ({error.strerror}), and the bundle needs it: "
            f"is {project} the project's root?"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 1 when nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.release.bundle", description="Write what MWAA takes of a release."
    )
    parser.add_argument("--project", type=Path, default=PROJECT, help="the project's root (default: this one)")
    parser.add_argument("--output", type=Path, help="the folder to write (default: dist/ in the project)")
    options = parser.parse_args(arguments)
    project: Path = options.project.resolve()
    folder: Path = (options.output or project / "dist").resolve()
    try:
        manifest = write_bundle(project, folder)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, digest in manifest.files.items():
        print(f"{digest[:12]}  {(folder / name).stat().st_size:>9,} B  {name}")
    state = "no git repository" if manifest.commit is None else manifest.commit
    print(f"{folder}: {len(manifest.files)} files, {state}{', with uncommitted changes' if manifest.dirty else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
