"""The sample client database: who is in it, who is left out and why, and that it is always the same."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from local.sample.client_database import BROKEN_CLIENT_ID, create_client_database

ROOT = Path(__file__).parents[4]
# The pipeline's own query: the sample is good if this query has something to leave out.
ELIGIBLE_SQL = (ROOT / "include/sql/dex_clients.sql").read_text()


def rows(path: Path, sql: str) -> list[Any]:
    """Return what `sql` finds in the database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with the default arguments."""
    path = tmp_path / "clients.sqlite"
    create_client_database(path)
    return path


def test_the_query_selects_about_two_thirds_of_300(database: Path) -> None:
    assert rows(database, "SELECT count(*) FROM Client") == [(300,)]
    assert 110 <= len(rows(database, ELIGIBLE_SQL)) <= 130


def test_without_distinct_clients_would_come_more_than_once(database: Path) -> None:
    eligible = rows(database, ELIGIBLE_SQL)
    repeated = rows(database, ELIGIBLE_SQL.replace("DISTINCT", ""))
    assert len(repeated) > len(eligible) + 20
    assert sorted(set(repeated)) == eligible


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(
            "c.OAuth2ClientCredentialsID IS NULL AND EXISTS (SELECT 1 FROM ClientServiceExt s "
            "WHERE s.ClientID = c.ClientID AND s.ServiceID IN (2, 3, 4, 5, 8))",
            id="no credentials",
        ),
        pytest.param(
            "c.OAuth2ClientCredentialsID IS NOT NULL AND EXISTS (SELECT 1 FROM ClientServiceExt s "
            "WHERE s.ClientID = c.ClientID) AND NOT EXISTS (SELECT 1 FROM ClientServiceExt s "
            "WHERE s.ClientID = c.ClientID AND s.ServiceID IN (2, 3, 4, 5, 8))",
            id="other services only",
        ),
        pytest.param(
            "c.OAuth2ClientCredentialsID IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM ClientServiceExt s WHERE s.ClientID = c.ClientID)",
            id="no services",
        ),
    ],
)
def test_clients_are_left_out_for_each_reason(database: Path, reason: str) -> None:
    left_out = {client_id for (client_id,) in rows(database, f"SELECT c.ClientID FROM Client c WHERE {reason}")}
    assert len(left_out) >= 10
    assert not left_out & {client_id for client_id, _ in rows(database, ELIGIBLE_SQL)}


def test_names_are_different_and_some_are_awkward(database: Path) -> None:
    names = [name for _, name in rows(database, ELIGIBLE_SQL)]
    assert len(set(names)) == len(names)
    for character in ("'", '"', ",", "<", "{", "ü", "東"):
        everyone = [name for (name,) in rows(database, "SELECT name FROM Client")]
        assert any(character in name for name in everyone), character
    assert any("'" in name for name in names)
    assert any(not name.isascii() for name in names)


@pytest.mark.parametrize(("clients", "share"), [(300, 0.7), (300, 0.01), (20, 1.0), (10_000, 1.0)])
def test_the_broken_client_is_eligible_in_every_database(tmp_path: Path, clients: int, share: float) -> None:
    path = tmp_path / "clients.sqlite"
    create_client_database(path, clients=clients, eligible_share=share)
    eligible = [client_id for client_id, _ in rows(path, ELIGIBLE_SQL)]
    assert BROKEN_CLIENT_ID in eligible
    assert abs(len(eligible) - clients * share) <= 1


@pytest.mark.parametrize(("clients", "share"), [(0, 0.7), (300, 0.0)])
def test_nobody_may_be_eligible(tmp_path: Path, clients: int, share: float) -> None:
    path = tmp_path / "clients.sqlite"
    create_client_database(path, clients=clients, eligible_share=share)
    assert rows(path, "SELECT count(*) FROM Client") == [(clients,)]
    assert rows(path, ELIGIBLE_SQL) == []


def test_a_second_run_replaces_the_database_by_the_same(database: Path) -> None:
    first = database.read_bytes()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM Client")
        connection.commit()
    create_client_database(database)
    assert database.read_bytes() == first
    assert list(database.parent.iterdir()) == [database]


def test_the_command_writes_the_number_asked_for_and_refuses_others(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "clients.sqlite"
    command = [sys.executable, "-m", "local.sample.client_database", str(path), "--clients"]
    subprocess.run([*command, "12"], cwd=ROOT, check=True)
    assert rows(path, "SELECT count(*) FROM Client") == [(12,)]
    refused = subprocess.run([*command, "-5"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "clients must be 0 to" in refused.stderr
