"""Faults that are planted in a copy of the project, one at a time: a campaign in it has to find each."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = (
    ".git",
    ".venv*",
    ".local*",
    ".node",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "dist",
    ".aws-sam",
    "htmlcov",
)


@dataclass(frozen=True)
class Plant:
    """One change of one file.

    Args:
        old: text that is there once, and ``new`` what replaces it.
        found: what the reconciliation then says, among other things.
        aim: id of the task whose loss shows it, or the service of AWS whose trouble does; None if it shows by itself.
    """

    file: str
    old: str
    new: str
    found: str
    aim: str | None = None


PLANTS = {
    "fence": Plant("lambdas/auction/order.py", 'IfNoneMatch="*",', "", "was stored", "process_order"),
    "once": Plant(
        "include/archive/store.py",
        'written = await self._put(key, client_id, day, response, IfNoneMatch="*")',
        'written = await self._s3.call("PutObject", Bucket=self._bucket, Key=key, Body=response.body)',
        "versions of one answer",
        "s3",
    ),
    "permit": Plant(
        "include/call_details/rate_limit.py",
        "LEASE_SECONDS = 90.0",
        "LEASE_SECONDS = 90_000.0",
        "permits are held",
        "post_chunk",
    ),
    "alert": Plant(
        "plugins/airflow_ext/metrics.py",
        "taken = send_alerts(given, self._context, topic_arn=topic, keep=keep)",
        'taken = [["sns"] for _ in given]',
        "neither archived nor told",
    ),
    "dead-letter": Plant(
        "include/call_details/poster.py",
        "self._dead_letters.save(dead_letter, batch.body)",
        "del dead_letter",
        "neither accepted nor a dead letter",
    ),
    "receiver": Plant(
        "include/delivery/owner_queue.py",
        "if response.accepted:",
        "if True:",
        "its receiver has not accepted it",
    ),
    "manifest": Plant(
        "include/archive/manifests.py",
        "merging = threads.submit(manifests.merge_day, day, document, saved)",
        "merging = threads.submit(dict)",
        "the manifest of",
    ),
}


def plant(name: str, directory: Path) -> None:
    """Copy the project to a directory that does not exist yet, with one change."""
    shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for venv in ROOT.glob(".venv*"):
        (directory / venv.name).symlink_to(venv.resolve())
    planted = PLANTS[name]
    path = directory / planted.file
    path.write_text(changed(path.read_text(), planted))


def changed(source: str, planted: Plant) -> str:
    """The source with the change.

    Raises:
        ValueError: the text to replace is not there, or there twice.
    """
    if source.count(planted.old) != 1:
        raise ValueError(f"{planted.file} has {source.count(planted.old)} times: {planted.old}")
    return source.replace(planted.old, planted.new)


def find(name: str, arguments: Sequence[str]) -> str | None:
    """Run a campaign in a copy with a planted fault; what its reconciliation says of that, if it does, and fails."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "project"
        plant(name, copy)
        planted = PLANTS[name]
        aim = ["--aim", planted.aim] if planted.aim else []
        command = [sys.executable, "-m", "tests.chaos", *aim, *arguments]
        found = None
        with subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, text=True) as campaign:
            assert campaign.stdout is not None
            for line in campaign.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                if found is None and "WRONG" in line and planted.found in line:
                    found = line.strip()
    return found if campaign.returncode == 1 else None
