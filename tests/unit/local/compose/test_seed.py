"""The rows that go into SQL Server, on a database that runs here: all but logins and grants is portable."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.compose import seed
from local.processes.layout import PROJECT_ROOT
from local.sample.client_database import create_client_database


def rows(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in seed.TABLES}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    create_client_database(tmp_path / "sample.sqlite")
    with closing(sqlite3.connect(tmp_path / "sample.sqlite")) as connection:
        yield connection


def test_rows_and_columns_are_those_of_the_local_stack(
    database: sqlite3.Connection, sample: sqlite3.Connection
) -> None:
    written = seed.write_sample(database.cursor(), placeholder="?")
    assert rows(database) == rows(sample)
    assert written == sum(map(len, rows(sample).values())) > 300
    for table in seed.TABLES:
        columns = f"SELECT name FROM pragma_table_info('{table}')"
        assert database.execute(columns).fetchall() == sample.execute(columns).fetchall()


def test_seeding_again_brings_the_sample_back(database: sqlite3.Connection, sample: sqlite3.Connection) -> None:
    seed.write_sample(database.cursor(), placeholder="?")
    database.execute("DELETE FROM ClientServiceExt")
    database.execute("UPDATE Client SET name = 'somebody else'")
    seed.write_sample(database.cursor(), placeholder="?")
    assert rows(database) == rows(sample)


def test_archive_finds_the_same_clients_in_both(database: sqlite3.Connection, sample: sqlite3.Connection) -> None:
    seed.write_sample(database.cursor(), placeholder="?")
    (query,) = (PROJECT_ROOT / "include" / "sql").glob("*.sql")
    found = database.execute(query.read_text()).fetchall()
    assert found == sample.execute(query.read_text()).fetchall()
    assert len(found) > 100


def test_no_text_is_longer_than_its_column(database: sqlite3.Connection) -> None:
    """SQLite does not hold this, and SQL Server does, counting in UTF-16."""
    seed.write_sample(database.cursor(), placeholder="?")
    for table in seed.TABLES:
        for name, kind in database.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall():
            if kind.startswith("NVARCHAR"):
                limit = int(kind.removeprefix("NVARCHAR(").removesuffix(")"))
                texts = [text for (text,) in database.execute(f"SELECT {name} FROM {table}")]
                assert max(len(text.encode("utf-16-le")) // 2 for text in texts) <= limit


def test_missing_passwords_are_named_before_anything_is_connected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SQL_ADMIN_PASSWORD", "")
    monkeypatch.delenv("SQL_READER_PASSWORD", raising=False)
    with pytest.raises(SystemExit) as ended:
        seed.main(["--server", "nowhere.invalid"])
    assert ended.value.code == 2
    assert "SQL_ADMIN_PASSWORD, SQL_READER_PASSWORD" in capsys.readouterr().err
