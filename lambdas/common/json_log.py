"""A log of JSON lines with the fields that Powertools' has, for a function that cannot wait for Powertools to load."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


class JsonLog:
    """Writes to standard output, which Lambda sends to the function's log.

    Args:
        service: who writes.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    def info(self, message: str, **fields: str | None) -> None:
        """Note what happens in the ordinary course of things."""
        self._write("INFO", message, fields)

    def error(self, message: str, **fields: str | None) -> None:
        """Note what somebody has to look into."""
        self._write("ERROR", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, str | None]) -> None:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"level": level, "message": message, "timestamp": timestamp, "service": self._service, **fields}
        sys.stdout.write(json.dumps(line) + "\n")
        # Lambda may freeze the function before Python would do it.
        sys.stdout.flush()
