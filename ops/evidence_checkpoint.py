"""What a verification of the archive has proven so far, in a SQLite file: memory does not grow with the archive."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ops.report import OpsError

_TABLES = """
CREATE TABLE IF NOT EXISTS verification (scope TEXT);
CREATE TABLE IF NOT EXISTS digests (
  key TEXT, version TEXT, sha256 TEXT, entry INTEGER, proven INTEGER DEFAULT 0,
  PRIMARY KEY (key, version, sha256)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS selections (client TEXT, day TEXT, PRIMARY KEY (client, day)) WITHOUT ROWID;
"""

Answer = tuple[str, str, str]
"""Key, version (empty where the bucket keeps none) and sha256, as a manifest names them."""


class Checkpoint:
    """Answers that manifests name, which of them are proven, and whom the runs of each day selected."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, entry: int, answers: Iterable[Answer], selected: Iterable[tuple[int, str]]) -> None:
        """Note what the manifest of an entry has: its answers, and each client with its day."""
        insert = "INSERT OR IGNORE INTO digests (key, version, sha256, entry) VALUES (?, ?, ?, ?)"
        self._database.executemany(insert, ((*answer, entry) for answer in answers))
        selections = ((str(client), day) for client, day in selected)
        self._database.executemany("INSERT OR IGNORE INTO selections VALUES (?, ?)", selections)

    def count(self, *, unproven: bool = False) -> int:
        """How many answers, or how many of them are still to be read."""
        (count,) = self._database.execute(
            "SELECT count(*) FROM digests WHERE NOT (? AND proven)", (unproven,)
        ).fetchone()
        return int(count)

    def unproven(self) -> Iterator[tuple[Answer, int]]:
        """Answers still to be read, and their entries, page by page: those of a page may be marked meanwhile."""
        last = ("", "", "")
        while rows := self._database.execute(
            "SELECT key, version, sha256, entry FROM digests WHERE NOT proven AND (key, version, sha256) > (?, ?, ?) "
            "ORDER BY key, version, sha256 LIMIT 1000",
            last,
        ).fetchall():
            yield from ((row[:3], row[3]) for row in rows)
            last = rows[-1][:3]

    def prove(self, answers: Iterable[Answer] = ()) -> None:
        """Mark answers as proven; all that was noted is kept from now on."""
        self._database.executemany("UPDATE digests SET proven = 1 WHERE (key, version, sha256) = (?, ?, ?)", answers)
        self._database.commit()

    def knows(self, key: str, version: str) -> bool:
        """Whether some manifest names this version of an answer."""
        found = self._database.execute("SELECT 1 FROM digests WHERE key = ? AND version IN (?, '')", (key, version))
        return found.fetchone() is not None

    def days(self) -> set[str]:
        """Days on which somebody was selected."""
        return {day for (day,) in self._database.execute("SELECT DISTINCT day FROM selections")}

    def missing(self, day: str, before: str, after: str) -> list[int]:
        """Clients that the days before and after have, and the day between has not."""
        found = self._database.execute(
            "SELECT client FROM selections a JOIN selections b USING (client) WHERE a.day = ? AND b.day = ? "
            "AND NOT EXISTS (SELECT 1 FROM selections c WHERE c.client = a.client AND c.day = ?)",
            (before, after, day),
        )
        return sorted(int(client) for (client,) in found)


@contextmanager
def checkpoint(given: Path | None, of: str) -> Iterator[Checkpoint]:
    """What an interrupted verification ``of`` the same noted in this file, or nothing yet.

    Raises:
        OpsError: the file cannot be used, or is of another verification.
    """
    with tempfile.TemporaryDirectory(prefix="evidence-") as scratch:
        file = given or Path(scratch, "proven.sqlite")
        try:
            database = sqlite3.connect(file)
            database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise OpsError(f"checkpoint {file} cannot be used: {error}") from None
        with closing(database):
            (noted,) = database.execute("SELECT min(scope) FROM verification").fetchone()
            if noted not in (None, of):
                raise OpsError(f"checkpoint {file} is of {noted}, not of {of}: name another file")
            database.execute("INSERT INTO verification VALUES (?)", (of,))
            yield Checkpoint(database)
            # It has come to its end: what it proved is of that time, and the next one reads it again.
            for table in ("verification", "digests", "selections"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            database.commit()
