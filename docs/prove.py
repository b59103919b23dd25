"""`make prove`: run every command that the documents tell people to run, in their order, on the local stack.

Each block fenced as ``sh`` counts. The blocks of a document run in one shell, as somebody would paste them, and the
first command that fails ends it with the name and line of its block. A block that cannot run on this machine stands
below a comment ``<!-- not run by make prove: why -->``: of that only the syntax is checked, and it is listed with its
reason.

The shell knows what the document says and nothing else: no variable but that of the cache of packages, an empty home,
the system's own commands beside `python3.12` and `aws`. A document that calls `aws` runs once with version 1 (PyPI's)
and once with the version 2 that Debian has, where that can be had. All of it runs in a network that consists of the
loopback: nothing can reach an account, or anything else.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "docs/LOCAL.md",
    "docs/COMPOSE.md",
    "docs/RUNBOOK.md",
    "docs/EVIDENCE.md",
    "infra/README.md",
    "CONTRIBUTING.md",
)

_BLOCK = re.compile(
    r"(?:^<!-- not run by make prove: (?P<reason>.+?) -->\n\s*)?^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
# An answer like 404 is a failure here, whatever a reader's curl makes of it.
_HEAD = """\
set -Eeuo pipefail
trap 'echo "error: $block: this command failed: $BASH_COMMAND" >&2' ERR
curl() { command curl --fail-with-body "$@"; }"""


@dataclass(frozen=True, slots=True)
class Block:
    """Commands of a document.

    Args:
        where: document and line, ``README.md:12``.
        text: the commands.
        reason: why they do not run on this machine; empty if they do.
    """

    where: str
    text: str
    reason: str


def blocks_of(document: str, text: str) -> list[Block]:
    """The blocks of commands in a document's text."""
    return [
        Block(f"{document}:{text.count(chr(10), 0, found.start('text')) + 1}", found["text"], found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]


def script_of(blocks: Sequence[Block]) -> str:
    """A bash script of the blocks that run here; the first command that fails ends it, and says which it was."""
    steps = [f"block={block.where}\necho '==> {block.where}'\n{block.text}" for block in blocks if not block.reason]
    return "\n".join([_HEAD, *steps])


def syntax_error(block: Block) -> str:
    """What bash says of the block without running it; empty if it could run."""
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)  # noqa: S607
    return checked.stderr


_DEBIAN_AWS = [
    "awscli",
    *(
        f"python3-{name}"
        for name in (
            *("awscrt", "cffi-backend", "colorama", "cryptography", "dateutil", "distro", "docutils", "jmespath"),
            *("prompt-toolkit", "pyasn1", "roman", "ruamel.yaml", "ruamel.yaml.clib", "six", "urllib3", "wcwidth"),
        )
    ),
]
"""The package and what it needs, for the system's own Python."""


def debian_aws(folder: Path) -> Path | None:
    """Unpack Debian's AWS CLI into a folder, installing nothing.

    Returns:
        the command; None where there is no such package.
    """
    packages = folder / "packages"
    packages.mkdir()
    try:
        subprocess.run(["apt-get", "download", *_DEBIAN_AWS], cwd=packages, capture_output=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)  # noqa: S603, S607
    command = folder / "aws"
    modules = folder / "root/usr/lib/python3/dist-packages"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec /usr/bin/python3 {folder}/root/usr/bin/aws "$@"\n')
    command.chmod(0o755)
    return command


def leave_the_network() -> None:
    """Move this process, and all that it starts, into a network of its own that has the loopback and nothing else.

    Raises:
        OSError: the system does not let it.
    """
    me, group = os.getuid(), os.getgid()
    if me == 0:
        os.unshare(os.CLONE_NEWNET)
    else:
        # Only the owner of a user namespace may make a network without being root; there everybody stays who they are.
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{me} {me} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh", b"lo", _UP_AND_RUNNING))


_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x41
"""``SIOCSIFFLAGS``, ``IFF_UP | IFF_RUNNING`` of Linux."""


def prove(documents: Sequence[str], clis: Mapping[str, Path], folder: Path) -> int:
    """Run the commands of the documents, one document after another.

    Args:
        documents: their names.
        clis: commands `aws`, by what they are called here.
        folder: for what the shells need.

    Returns:
        how many documents failed.
    """
    failed = []
    for document in documents:
        blocks = blocks_of(document, (ROOT / document).read_text(encoding="utf-8"))
        wrong = [message for message in map(syntax_error, blocks) if message]
        calls_aws = any(re.search(r"\baws [a-z]", block.text) for block in blocks if not block.reason)
        codes = []
        for name in clis if calls_aws else [next(iter(clis))]:
            if calls_aws:
                print(f"=== {document} with {name}", flush=True)
            shell = ["bash", "-c", script_of(blocks)]
            done = subprocess.run(shell, cwd=ROOT, env=_shell(clis[name], folder / name), check=False)  # noqa: S603
            codes.append(done.returncode)
        if wrong or any(codes):
            failed.append(document)
            print("".join(wrong), end="", file=sys.stderr)
        for block in blocks:
            if block.reason:
                print(f"not run: {block.where}: {block.reason}")
    print(f"{len(documents) - len(failed)} of {len(documents)} documents say what works here.")
    if failed:
        print(f"error: commands failed in {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def _shell(aws: Path, folder: Path) -> dict[str, str]:
    """The environment of a shell in which somebody begins to read."""
    tools, home = folder / "bin", folder / "home"
    for path in (tools, home):
        path.mkdir(parents=True, exist_ok=True)
    for name, command in (("aws", aws), ("python3.12", Path(sys.executable).resolve())):
        if not (tools / name).exists():
            (tools / name).symlink_to(command)
    path = os.pathsep.join([str(tools), "/usr/local/bin", "/usr/bin", "/bin"])
    # What the functions are built from was installed before the network was left.
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "UV_CACHE_DIR": cache}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the documents that are named, or all; returns 1 if a command failed. The stack is down afterwards."""
    parser = argparse.ArgumentParser(
        prog="python docs/prove.py", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("documents", nargs="*", help=f"some of: {', '.join(DOCUMENTS)} (default: all)")
    named = parser.parse_args(arguments).documents
    unknown = sorted(set(named) - set(DOCUMENTS))
    if unknown:
        parser.error(f"no such document: {', '.join(unknown)}")
    missing = [name for name in ("bash", "curl", "openssl") if shutil.which(name) is None]
    if missing:
        parser.error(f"the documents use {', '.join(missing)}: install it")
    with tempfile.TemporaryDirectory(prefix="prove-") as temporary:
        folder = Path(temporary)
        clis = {"aws-1": ROOT / ".venv-aws/bin/aws"}
        if (command := debian_aws(folder)) is not None:
            clis["aws-2"] = command
        for name, path in clis.items():
            version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
            print(f"{name}: {version}")
        if len(clis) == 1:
            print("not proven: version 2 of aws, which Debian's packages are needed for")
        for command in ("up", "down"):
            # Builds the functions, for which packages are fetched the first time.
            subprocess.run([sys.executable, "-m", "local", command], cwd=ROOT, capture_output=True, check=True)  # noqa: S603
        try:
            leave_the_network()
        except OSError as error:
            print(f"not proven: that nothing leaves this machine: {error}")
        try:
            return 1 if prove(named or DOCUMENTS, clis, folder) else 0
        finally:
            subprocess.run([sys.executable, "-m", "local", "down"], cwd=ROOT, check=False)


if __name__ == "__main__":
    raise SystemExit(main())
