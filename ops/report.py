"""What a command answers: a table for people, JSON for scripts, or an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class OpsError(Exception):
    """What is wrong and what to do; the command changed nothing. ``status`` is Airflow's, if it refused."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Report:
    """The answer of one command.

    Args:
        title: what the table shows.
        columns: its columns: key of the rows, and heading.
        rows: one mapping a line; JSON values.
        notes: lines below the table: what to do next.
        failed: the command's exit code is 1.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = field(default=())
    failed: bool = False

    def write(self, *, as_json: bool, file: TextIO | None = None) -> None:
        """Print it, on standard output if there is no file.

        As one JSON object: ``title``, ``rows`` with all their fields, ``notes``.
        """
        file = file or sys.stdout
        if as_json:
            json.dump({"title": self.title, "rows": [*self.rows], "notes": [*self.notes]}, file, indent=2, default=str)
            file.write("\n")
            return
        console = Console(file=file, highlight=False, soft_wrap=not file.isatty())
        table = Table(
            title=escape(_text(self.title)), title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for heading in self.columns.values():
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(*(escape(_text(row.get(name), grouped=name not in _IDS)) for name in self.columns))
        console.print(table)
        if not self.rows:
            console.print("none")
        for note in self.notes:
            console.print(escape(_text(note)))


_IDS = ("client", "id")
"""Columns of numbers that somebody copies: no comma belongs into them."""


def _text(value: object, *, grouped: bool = True) -> str:
    if value is None:
        return ""
    if grouped and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


def printable(text: str) -> str:
    """A line with what would steer the terminal made visible: others chose names, keys, reasons."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def age(then: datetime, now: datetime | None = None) -> str:
    """How long ago, as people say it: ``45 s``, ``12 min``, ``3 h``, ``5 d``."""
    seconds = int(((now or datetime.now(UTC)) - then) / timedelta(seconds=1))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def moment(text: str | None) -> datetime | None:
    """A time of Airflow's API or of a document, RFC 3339."""
    return datetime.fromisoformat(text) if text else None
