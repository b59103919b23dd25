"""The archive bucket as an investigator reads it."""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from local.stack.description import Stack
from tests.worlds.live.bucket import Bucket, Version

DAG_ID = "dex_trigger_archive"


def key_of(client: int, day: date) -> str:
    """Where the specification wants a client's answer of a day."""
    return f"trigger/{client}/{client}_trigger_{day:%Y%m%d}.json"


class Archive(Bucket):
    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, stack.archive_bucket)

    def versions(self, client: int, day: date) -> list[Version]:
        """All versions of a client's answer of a day, newest first; none if it was never archived."""
        return self.listing(key_of(client, day))

    def versions_of_day(self, day: date) -> dict[str, int]:
        """How many versions each answer of a day has, by key."""
        counts: dict[str, int] = {}
        for version in self.listing("trigger/"):
            if version.key.endswith(f"_trigger_{day:%Y%m%d}.json"):
                counts[version.key] = counts.get(version.key, 0) + 1
        return counts

    def body(self, client: int, day: date, version: str | None = None) -> bytes:
        return bytes(self.get(key_of(client, day), version)["Body"])

    def manifest(self, day: date) -> dict[str, Any]:
        return json.loads(self.get(f"manifests/trigger/{day:%Y%m%d}.json")["Body"])

    def outcomes(self, day: date, run_id: str) -> Iterator[dict[str, Any]]:
        """What the tasks of a run have kept about their clients so far."""
        for key in {version.key for version in self.listing(f"runs/trigger/{day:%Y%m%d}/")}:
            document = json.loads(self.get(key)["Body"])
            if "outcomes" in document:
                yield from document["outcomes"]
