"""Stands in for MWAA's image: a virtual environment with what the image brings and what the bundle has it install.

``mwaa_image.txt`` lists what the image brings. The bundle's ``requirements.txt`` is installed as MWAA does it: after
the image was made, together with the image's own list, held to the constraints that it names. These lie in the
bundle's archive, for which MWAA has a folder that this machine lacks, so that path alone is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from infra.release.bundle import (
    ARCHIVE,
    MWAA_PLUGINS,
    PROJECT,
    REQUIREMENTS,
    ReleaseError,
    constraints_name,
    write_bundle,
)

IMAGE = Path("infra/release/mwaa_image.txt")
VENV = PROJECT / ".venv-mwaa"
_RECORD = "installed.json"


@dataclass(frozen=True, slots=True)
class Installed:
    """What the virtual environment was made of and holds; ``installed.json`` in it.

    Args:
        fingerprint: of the lists that it was installed from.
        image: versions by normalized name, before ``requirements.txt``.
        all: versions by normalized name, after it.
    """

    fingerprint: str
    image: dict[str, str]
    all: dict[str, str]


def fingerprint(project: Path) -> str:
    """SHA-256 of all that decides what is installed: the image's list, ``requirements.txt`` and the constraints.

    Raises as :func:`infra.release.bundle.constraints_name`.
    """
    digest = sha256()
    for path in (project / IMAGE, project / REQUIREMENTS, project / "requirements" / constraints_name(project)):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def installed(venv: Path) -> Installed | None:
    """What is in the virtual environment; None unless its installation came to an end."""
    record = venv / _RECORD
    return Installed(**json.loads(record.read_text())) if record.is_file() else None


def install(project: Path, venv: Path) -> Installed:
    """Make the virtual environment, unless it is current; ReleaseError if the installer fails, which says why."""
    wanted, found = fingerprint(project), installed(venv)
    if found is not None and found.fingerprint == wanted:
        return found
    with tempfile.TemporaryDirectory(prefix="mwaa-image-") as scratch:
        bundle, plugins = Path(scratch) / "bundle", Path(scratch) / "plugins"
        write_bundle(project, bundle)
        with zipfile.ZipFile(bundle / ARCHIVE) as archive:
            archive.extractall(plugins)
        requirements = Path(scratch) / REQUIREMENTS
        requirements.write_text((bundle / REQUIREMENTS).read_text().replace(MWAA_PLUGINS, str(plugins)))
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        _install(venv, "-r", str(project / IMAGE), "-c", str(plugins / constraints_name(project)))
        image = _versions(venv)
        _install(venv, "-r", str(requirements), "-r", str(project / IMAGE))
    done = Installed(wanted, image, _versions(venv))
    (venv / _RECORD).write_text(json.dumps(asdict(done), indent=2))
    return done


def _install(venv: Path, *what: str) -> None:
    python = str(venv / "bin/python")
    try:
        _run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *what])
    except ReleaseError as error:
        # Where only pip's own configuration knows the way to a package index; it also says again what does not fit.
        print(f"    {error}; trying pip", file=sys.stderr)
        try:
            _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what])
        except ReleaseError as failed:
            raise ReleaseError(
                f"{failed}: see above. What does not fit in {REQUIREMENTS} would not fit on MWAA either, where it is "
                "only logged"
            ) from error


def _versions(venv: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
    listed = _run([str(venv / "bin/python"), "-I", "-c", code])
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in sorted(json.loads(listed))}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours, no shell
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[:5])} … failed")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 1 when it could not be installed."""
    parser = argparse.ArgumentParser(prog="python -m infra.release.mwaa_image", description=__doc__)
    parser.add_argument("--venv", type=Path, default=VENV, help="the virtual environment to make (default: .venv-mwaa)")
    options = parser.parse_args(arguments)
    try:
        done = install(PROJECT, options.venv.resolve())
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    added = [f"{name} {version}" for name, version in done.all.items() if name not in done.image]
    print(f"{options.venv}: {len(done.image)} packages of MWAA's image; {REQUIREMENTS} adds {', '.join(added)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
