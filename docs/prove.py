"""`make prove`: run every command that the documents tell people to run, in their order, on the local stack.

Each block fenced as ``sh`` counts. The blocks of a document run in one shell, as somebody would paste them, and the
first command that fails ends it with the name and line of its block. A block that cannot run on this machine stands
below a comment ``<!-- not run by make prove: why -->``: of that only the syntax is checked, and it is listed with its
reason.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "docs/LOCAL.md",
    "docs/COMPOSE.md",
    "docs/RUNBOOK.md",
    "docs/EVIDENCE.md",
    "docs/CONFIGURATION.md",
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

_TOOLS = (".venv/bin", ".venv-aws/bin")
"""Where this project keeps what its documents call by name, `aws` above all."""


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


def prove(documents: Sequence[str]) -> int:
    """Run the commands of the documents, one document after another; returns the number of documents that failed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    environment["PATH"] = os.pathsep.join([*(str(ROOT / folder) for folder in _TOOLS), os.environ["PATH"]])
    failed = []
    for document in documents:
        blocks = blocks_of(document, (ROOT / document).read_text(encoding="utf-8"))
        wrong = [message for message in map(syntax_error, blocks) if message]
        done = subprocess.run(["bash", "-c", script_of(blocks)], cwd=ROOT, env=environment, check=False)  # noqa: S603, S607
        if wrong or done.returncode:
            failed.append(document)
            print("".join(wrong), end="", file=sys.stderr)
        for block in blocks:
            if block.reason:
                print(f"not run: {block.where}: {block.reason}")
    print(f"{len(documents) - len(failed)} of {len(documents)} documents say what works here.")
    if failed:
        print(f"error: commands failed in {', '.join(failed)}", file=sys.stderr)
    return len(failed)


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
    try:
        return 1 if prove(named or DOCUMENTS) else 0
    finally:
        subprocess.run([sys.executable, "-m", "local", "down"], cwd=ROOT, check=False)


if __name__ == "__main__":
    raise SystemExit(main())
