"""`python -m local.compose.seed`: give a SQL Server the sample clients and the login that reads them.

Running it again brings everything back to the sample. Secrets come from the environment, as docker-compose.yaml says.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from local.sample.client_database import create_client_database

DATABASE = "Clients"
READER = "archive_reader"
PORT = 1433
TABLES = ("Client", "ClientServiceExt")

_SCHEMA = Path(__file__).with_name("clients.sql")
_LOGIN_SECONDS = 15
_QUERY_SECONDS = 60

# A password cannot be a parameter of CREATE LOGIN, so the statement is put together where quoting is the server's.
_SET_LOGIN = f"""
DECLARE @verb NVARCHAR(10) = IIF(SUSER_ID(N'{READER}') IS NULL, N'CREATE', N'ALTER');
DECLARE @statement NVARCHAR(MAX) = @verb + N' LOGIN {READER} WITH PASSWORD = ' + QUOTENAME(%s, '''');
EXEC (@statement);
"""
_CREATE_DATABASE = f"IF DB_ID(N'{DATABASE}') IS NULL CREATE DATABASE {DATABASE}"
_CREATE_USER = f"IF USER_ID(N'{READER}') IS NULL CREATE USER {READER} FOR LOGIN {READER}"
_GRANTS = tuple(f"GRANT SELECT ON {table} TO {READER}" for table in TABLES)


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    def execute(self, statement: str, /) -> Any:
        """Run a statement."""

    def executemany(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> Any:
        """Run a statement once for each row."""


def write_sample(cursor: Cursor, *, placeholder: str) -> int:
    """Make the tables anew and fill them with the local stack's clients; returns the number of rows, of both tables.

    The cursor is of any database, whose driver writes a parameter as `placeholder`, `%s` or `?`; the caller commits.
    """
    for statement in _statements(_SCHEMA.read_text(encoding="utf-8")):
        cursor.execute(statement)
    written = 0
    for table, columns, rows in _sample():
        values = ", ".join([placeholder] * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", rows)
        written += len(rows)
    return written


def _statements(script: str) -> list[str]:
    code = "\n".join(line for line in script.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in code.split(";") if statement.strip()]


def _sample() -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    """For each table its name, its columns and its rows."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sample.sqlite"
        create_client_database(path)
        with closing(sqlite3.connect(path)) as sample:
            for table in TABLES:
                found = sample.execute(f"SELECT * FROM {table}")
                yield table, [column[0] for column in found.description], found.fetchall()


def main(argv: Sequence[str] | None = None) -> int:
    """Seed the server; returns 0. An error of the server ends the command with its message."""
    parser = argparse.ArgumentParser(prog="python -m local.compose.seed", description=__doc__)
    parser.add_argument("--server", required=True, help=f"host name of the SQL Server, which listens on {PORT}")
    options = parser.parse_args(argv)
    admin_password, reader_password = required(parser, "SQL_ADMIN_PASSWORD", "SQL_READER_PASSWORD")
    import pymssql

    def connected(database: str, *, autocommit: bool) -> pymssql.Connection:
        return pymssql.connect(
            server=options.server, port=str(PORT), user="sa", password=admin_password, database=database,
            autocommit=autocommit, login_timeout=_LOGIN_SECONDS, timeout=_QUERY_SECONDS,
            tds_version="7.4", encryption="require",
        )  # fmt: skip

    # SQL Server creates no database inside a transaction.
    with closing(connected("master", autocommit=True)) as server:
        server.cursor().execute(_CREATE_DATABASE)
        server.cursor().execute(_SET_LOGIN, (reader_password,))
    with closing(connected(DATABASE, autocommit=False)) as clients:
        cursor = clients.cursor()
        written = write_sample(cursor, placeholder="%s")
        for statement in (_CREATE_USER, *_GRANTS):
            cursor.execute(statement)
        clients.commit()
    print(f"{written} rows in {', '.join(TABLES)} of database {DATABASE}; {READER} may read them")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())


def required(parser: argparse.ArgumentParser, *names: str) -> list[str]:
    """The values of these environment variables; one that is missing or empty ends the command with status 2."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        parser.error(f"not in the environment: {', '.join(missing)} (docker-compose.yaml takes them from .env)")
    return [os.environ[name] for name in names]
