"""Lambda functions of a test's own on the emulator, made of Python source."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_NUMBERS = itertools.count(1)

_HEAD = '''
import fcntl, json, pathlib, time

PART = json.loads(pathlib.Path(__file__).with_name("part.json").read_text())

def note(event):
    """Write the call down before anything else; returns how many came earlier."""
    with open(PART["journal"], "a+") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        journal.seek(0)
        earlier = len(journal.readlines())
        journal.write(json.dumps({"at": time.time(), "event": event}) + "\\n")
    print("called")  # the emulator waits for a log line
    return earlier
'''


class AdHocFunction:
    """A function on the emulator, which runs on this machine and so can write its calls down in a file.

    Args:
        client: a boto3 Lambda client.
        directory: where the journal of its calls lies.
        source: defines ``handler(event, context)``; it may call ``note(event)``, which writes the call down and
            returns the number of earlier ones, and read ``PART``.
        timeout: of the function, in seconds.
        part: JSON values that the source finds in ``PART``.
    """

    def __init__(self, client: LambdaClient, directory: Path, source: str, *, timeout: int = 10, **part: Any) -> None:
        self.name = f"ad-hoc-{os.getpid()}-{next(_NUMBERS)}"
        self._journal = directory / f"{self.name}.jsonl"
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("function.py", _HEAD + source)
            archive.writestr("part.json", json.dumps({"journal": str(self._journal), **part}))
        client.create_function(
            FunctionName=self.name,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/ad-hoc",
            Handler="function.handler",
            Code={"ZipFile": content.getvalue()},
            Timeout=timeout,
        )

    def calls(self) -> list[dict[str, Any]]:
        """What reached the function, in its order: ``at`` (Unix time) and ``event``."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().splitlines()]
