import json
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import quote

import boto3
import pymssql
import pytest
from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
from airflow.sdk import Connection
from botocore.stub import Stubber

from airflow_ext.hooks.aws import s3_client
from airflow_ext.hooks.dex import MssqlExtra, api_access, database_hook, dex_api, read_rows
from airflow_ext.settings import get_connection
from include.errors import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    PipelineError,
    SettingsError,
    SettingsUnavailableError,
)
from local.services.airflow import secrets_backend
from tests.worlds.airflow import deny_secrets
from tests.worlds.alerts import ENVIRONMENT
from tests.worlds.pipeline import PLANTED, leaks
from tests.worlds.s3 import raising

SECRET = PLANTED


@pytest.fixture
def secrets() -> Iterator[tuple[SecretsManagerBackend, Stubber]]:
    """The real backend over a stubbed Secrets Manager."""
    client = boto3.client(
        "secretsmanager", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    backend = SecretsManagerBackend(**secrets_backend("http://127.0.0.1:9"))
    backend.client = client
    with Stubber(client) as stubber:
        yield backend, stubber


def stored(secrets: tuple[SecretsManagerBackend, Stubber], conn_id: str, value: dict[str, Any]) -> Connection:
    """The connection that Airflow makes of a secret."""
    backend, stubber = secrets
    name = f"airflow/connections/{conn_id}"
    stubber.add_response("get_secret_value", {"SecretString": json.dumps(value)}, {"SecretId": name})
    text = backend.get_conn_value(conn_id)
    assert text is not None
    return Connection.from_json(text, conn_id=conn_id)


def connected_to(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the driver of SQL Server is asked to connect to."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr("pymssql.connect", lambda **arguments: asked.update(arguments))
    database_hook(conn).get_conn()
    return asked


OF_RDS = {"dbname": "clients", "dbInstanceIdentifier": "db-1"}


@pytest.mark.parametrize(
    "more",
    [
        {"database": "clients"},
        *(OF_RDS | {"engine": engine} for engine in ("sqlserver-ex", "sqlserver-se", "custom-sqlserver-ee")),
    ],
)
def test_original_database_secret_and_those_of_rds_lead_to_sql_server(
    more: dict[str, Any], secrets: tuple[SecretsManagerBackend, Stubber], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"host": "db.test", "username": "reader", "password": SECRET, "port": 1444, **more}
    conn = stored(secrets, "dex_db", secret)
    assert connected_to(conn, monkeypatch) == {
        "server": "db.test",
        "user": "reader",
        "password": SECRET,
        "database": "clients",
        "port": "1444",
        "tds_version": "7.4",
        "encryption": "require",
        "login_timeout": 15,
        "timeout": 60,
    }


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"encrypt": "yes"}, r"extra\.encrypt is 'yes': is none of tds_version, encryption"),
        ({"driver": "ODBC Driver 18"}, r"extra\.driver is 'ODBC Driver 18'"),
        ({"tds_version": 7.4}, r"extra\.tds_version is 7\.4: .*'7\.4'"),
        ({"tds_version": "7.0"}, r"extra\.tds_version is '7\.0': .*'7\.1'"),
        ({"tds_version": "4.2"}, r"extra\.tds_version is '4\.2'"),
        ({"encryption": "required"}, r"extra\.encryption is 'required': .*'require'"),
        ({"encryption": True}, r"extra\.encryption is True"),
        ({"timeout": "60"}, r"extra\.timeout is '60': .*integer"),
        ({"login_timeout": 0}, r"extra\.login_timeout is 0: .*greater than 0"),
        ({"pwd": SECRET}, r"extra\.pwd is none of"),
    ],
    ids=str,
)
def test_extra_that_pymssql_does_not_take_is_named_with_its_value(extra: dict[str, Any], says: str) -> None:
    conn = Connection(conn_id="dex_db", conn_type="mssql", host="db.test", extra=json.dumps(extra))
    with pytest.raises(SettingsError, match=f"connection 'dex_db': {says}") as caught:
        database_hook(conn)
    assert leaks("".join(traceback.format_exception(caught.value)), SECRET) == []


def test_password_s_line_break_at_the_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    conn = Connection(conn_id="dex_db", conn_type="mssql", host="db.test", login="reader", password=f"{SECRET}\n")
    assert connected_to(conn, monkeypatch)["password"] == SECRET


@pytest.mark.parametrize(("extra", "hint"), [({}, True), ({"encryption": "request"}, False)])
def test_failed_connection_that_must_be_encrypted_says_how_to_permit_another(
    extra: dict[str, Any], hint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pymssql.connect", raising(pymssql.OperationalError((20002, b"Adaptive Server connection failed")))
    )
    conn = {"conn_type": "mssql", "host": "db.test", "login": "reader", "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DEX_DB", json.dumps(conn))
    with pytest.raises(DatabaseUnavailableError) as caught:
        read_rows("SELECT 1")
    assert ("extra.encryption must be 'request' or 'off'" in str(caught.value)) is hint


@pytest.mark.parametrize("port", [{}, {"port": None}, {"port": "1433"}], ids=str)
def test_sql_server_listens_on_its_usual_port_unless_set(
    port: dict[str, Any], secrets: tuple[SecretsManagerBackend, Stubber], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"host": "db.test", "username": "reader", "password": SECRET, "database": "clients"} | port
    assert connected_to(stored(secrets, "dex_db", secret), monkeypatch)["port"] == "1433"


def test_full_sql_server_connection_keeps_its_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    conn = Connection(
        conn_id="dex_db",
        conn_type="mssql",
        host="db.test",
        login="reader",
        password=SECRET,
        schema="clients",
        extra=json.dumps({"tds_version": "7.3", "encryption": "require", "timeout": 5, "appname": "pipelines"}),
    )
    asked = connected_to(conn, monkeypatch)
    assert (asked["tds_version"], asked["encryption"], asked["port"]) == ("7.3", "require", "1433")
    assert (asked["timeout"], asked["appname"]) == (5, "pipelines")
    assert asked["login_timeout"] == MssqlExtra().login_timeout, "what it does not say has our default"


def test_sql_server_without_host_is_named() -> None:
    with pytest.raises(SettingsError, match="'dex_db': host is missing"):
        database_hook(Connection(conn_id="dex_db", conn_type="mssql"))


@pytest.mark.parametrize("conn_type", ["http", "aws", "slackwebhook", "nonsense"])
def test_connection_that_is_no_sql_database_is_refused(conn_type: str) -> None:
    with pytest.raises(SettingsError, match=f"'dex_db': type '{conn_type}'") as caught:
        database_hook(Connection(conn_id="dex_db", conn_type=conn_type, host="db.test", password=SECRET))
    assert leaks(str(caught.value), SECRET) == []


def test_sqlite_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clients.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE Client (ClientID INTEGER, name TEXT)")
        database.execute("INSERT INTO Client VALUES (7, 'Seven')")
    database.close()
    monkeypatch.setenv("AIRFLOW_CONN_DEX_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    assert read_rows("SELECT ClientID, name FROM Client") == [(7, "Seven")]


def test_failed_query_names_connection_and_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "empty.sqlite"
    path.touch()
    monkeypatch.setenv("AIRFLOW_CONN_DEX_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with pytest.raises(DatabaseUnavailableError, match=r"'dex_db' \(sqlite .*no such table: Client"):
        read_rows("SELECT ClientID FROM Client")


def error_of_ours(error: Exception, monkeypatch: pytest.MonkeyPatch, *, password: str = SECRET) -> PipelineError:
    """What is made of an error of the driver."""
    monkeypatch.setattr("pymssql.connect", raising(error))
    conn = {"host": "db.test", "login": "reader", "password": password, "schema": "clients"}
    monkeypatch.setenv("AIRFLOW_CONN_DEX_DB", json.dumps(conn))
    with pytest.raises(PipelineError, match=r"'dex_db' \(mssql db.test:1433, database clients\)") as caught:
        read_rows("SELECT 1")
    assert leaks(str(caught.value), SECRET) == []
    return caught.value


def test_unreachable_sql_server_names_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of_ours(OSError("Adaptive Server is unavailable\nand a second line"), monkeypatch)
    assert isinstance(error, DatabaseUnavailableError)
    assert "(mssql db.test:1433, database clients): OSError: Adaptive Server is unavailable;" in str(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # As pymssql raises them: for a login the number and the text in a tuple, for a query as two arguments.
        (pymssql.OperationalError((18456, b"Login failed for user 'reader'.DB-Lib error")), DatabaseRefusedError),
        (pymssql.OperationalError((18452, b"Login failed: untrusted domain")), DatabaseRefusedError),
        (pymssql.OperationalError((4060, b"Cannot open database")), DatabaseRefusedError),
        *(
            (pymssql.OperationalError((number, b"Login failed for user 'reader'.")), DatabaseRefusedError)
            for number in (18450, 18470, 18486, 18487, 18488, 17892, 4064, 916, 40532, 40615)
        ),
        (TypeError("an integer is required"), DatabaseRefusedError),
        (ValueError("unrecognized tds version"), DatabaseRefusedError),
        (pymssql.ProgrammingError(208, b"Invalid object name 'Client'."), DatabaseRefusedError),
        (pymssql.ProgrammingError(207, b"Invalid column name 'name'."), DatabaseRefusedError),
        (pymssql.OperationalError(229, b"The SELECT permission was denied"), DatabaseRefusedError),
        (
            pymssql.OperationalError((20009, b"Unable to connect: Adaptive Server is unavailable")),
            DatabaseUnavailableError,
        ),
        (pymssql.OperationalError((20003, b"Adaptive Server connection timed out")), DatabaseUnavailableError),
        (pymssql.OperationalError(1205, b"chosen as the deadlock victim"), DatabaseUnavailableError),
        (pymssql.InterfaceError("Connection is closed."), DatabaseUnavailableError),
        (pymssql.OperationalError(()), DatabaseUnavailableError),
        (pymssql.OperationalError(), DatabaseUnavailableError),
        (TimeoutError(), DatabaseUnavailableError),
    ],
    ids=repr,
)
def test_number_of_sql_server_decides_whether_a_retry_makes_sense(
    error: Exception, expected: type[PipelineError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(error_of_ours(error, monkeypatch)) is expected


def test_half_a_surrogate_pair_in_one_text_does_not_cost_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pymssql reads it; findings/ has the proof."""
    driver = MagicMock(autocommit_state=False)
    cursor, half = driver.cursor.return_value, UnicodeDecodeError("utf-8", b"\xed\xb2\x88", 0, 1, "invalid")
    monkeypatch.setattr("pymssql.connect", lambda **_: driver)
    monkeypatch.setenv("AIRFLOW_CONN_DEX_DB", json.dumps({"host": "db.test", "login": "reader", "password": SECRET}))
    cursor.fetchall.side_effect = [half, [(7, b"\x88\xdc")]]
    assert read_rows("SELECT text", undecoded="SELECT bytes") == [(7, b"\x88\xdc")]
    assert [call.args[0] for call in cursor.execute.call_args_list] == ["SELECT text", "SELECT bytes"]
    cursor.fetchall.side_effect = half
    with pytest.raises(DatabaseRefusedError, match="UnicodeDecodeError"):
        read_rows("SELECT text")


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (f"login with {PLANTED} failed", PLANTED),
        (f"argument {PLANTED!r} is not taken", PLANTED),
        (json.dumps({"password": PLANTED}), PLANTED),
        (f"mssql://reader:{quote(PLANTED)}@db.test", PLANTED),
        (repr(PLANTED.encode()), PLANTED),
        (json.dumps({"password": "ßéß"}), "ßéß"),
    ],
)
def test_error_of_a_driver_that_quotes_the_password_is_reported_by_its_type_alone(
    text: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = error_of_ours(OSError(text), monkeypatch, password=password)
    assert isinstance(error, DatabaseUnavailableError)
    assert "OSError: its text may hold the password" in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__, "or Airflow would log it"


def test_original_api_secret_takes_the_base_url_from_the_settings(
    secrets: tuple[SecretsManagerBackend, Stubber],
) -> None:
    secret = {"token_url": "https://login.test/token", "client_id": "me", "client_secret": SECRET}
    conn = stored(secrets, "dex_api", secret)
    base_url, credentials = api_access(conn, default_base_url="https://dex.test/api")
    assert base_url == "https://dex.test/api"
    assert (credentials.token_url, credentials.client_id, credentials.client_secret, credentials.scope) == (
        "https://login.test/token",
        "me",
        SECRET,
        "dex/trigger:all",
    )


def test_original_api_secret_without_the_setting_is_explained(secrets: tuple[SecretsManagerBackend, Stubber]) -> None:
    secret = {"token_url": "https://login.test/token", "client_id": "me", "client_secret": SECRET}
    with pytest.raises(SettingsError, match="dex_api_base_url"):
        api_access(stored(secrets, "dex_api", secret), default_base_url="")


FULL = {
    "conn_type": "http",
    "host": "https://dex.test",
    "login": "me",
    "password": SECRET,
    "extra": {"token_url": "https://login.test/token", "scope": "special"},
}


@pytest.mark.parametrize("default", ["", "https://other.test"])
def test_full_api_connection_needs_no_setting(default: str, secrets: tuple[SecretsManagerBackend, Stubber]) -> None:
    base_url, credentials = api_access(stored(secrets, "dex_api", FULL), default_base_url=default)
    assert base_url == "https://dex.test"
    assert (credentials.token_url, credentials.scope) == ("https://login.test/token", "special")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"host": None}, "host"),
        ({"login": None}, "login"),
        ({"password": ""}, "password"),
        ({"extra": {}}, "extra.token_url"),
    ],
    ids=str,
)
def test_missing_field_is_named(
    change: dict[str, Any], named: str, secrets: tuple[SecretsManagerBackend, Stubber]
) -> None:
    with pytest.raises(SettingsError, match="connection 'dex_api': missing") as caught:
        api_access(stored(secrets, "dex_api", FULL | change), default_base_url="")
    assert named in str(caught.value)
    assert leaks(str(caught.value), SECRET) == []


def test_connection_of_a_type_is_not_taken_for_the_original_secret(
    secrets: tuple[SecretsManagerBackend, Stubber],
) -> None:
    forgotten = FULL | {"extra": {"scope": "special"}}
    with pytest.raises(SettingsError, match=r"missing extra\.token_url"):
        api_access(stored(secrets, "dex_api", forgotten), default_base_url="https://other.test")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://dex.test", "must begin with https://"),
        ("http://dex.test", "must begin with https:// .*environment 'local'"),
        ("https://", "name a host"),
        ("https:///path", "name a host"),
        ("https:dex.test", "name a host|is no URL"),
        (f"https://dex.test:{SECRET}/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://dex.test/\x00", "is no URL"),
        (f"https://user:{SECRET}@dex.test", "no user and no password"),
        (f"https://{SECRET}@dex.test", "no user and no password"),
    ],
)
@pytest.mark.parametrize("field", ["host", "extra.token_url"])
def test_unusable_url_is_refused_by_its_field_and_not_quoted(
    field: str, url: str, says: str, secrets: tuple[SecretsManagerBackend, Stubber]
) -> None:
    change: dict[str, Any] = {"host": url} if field == "host" else {"extra": {"token_url": url}}
    with pytest.raises(SettingsError, match=says) as caught:
        api_access(stored(secrets, "dex_api", FULL | change), default_base_url="")
    assert f"connection 'dex_api': {field}" in str(caught.value)
    # As a log shows it, with its causes.
    assert leaks("".join(traceback.format_exception(caught.value)), SECRET) == []


def test_query_of_the_token_endpoint_is_kept_and_one_of_the_api_refused(
    secrets: tuple[SecretsManagerBackend, Stubber],
) -> None:
    token_url = "https://login.test/oauth2/v2.0/token?p=B2C_1_policy"
    _, credentials = api_access(
        stored(secrets, "dex_api", FULL | {"extra": {"token_url": token_url}}), default_base_url=""
    )
    assert credentials.token_url == token_url
    with pytest.raises(SettingsError, match="no query") as caught:
        api_access(stored(secrets, "dex_api", FULL | {"host": f"https://dex.test/?key={SECRET}"}), default_base_url="")
    assert leaks(str(caught.value), SECRET) == []


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "dex.test"}, "https://dex.test"),
        ({"host": "dex.test", "schema": "http", "port": 8080}, "http://dex.test:8080"),
        ({"host": "https://dex.test/api"}, "https://dex.test/api"),
        ({"host": "https://dex.test", "port": 8443}, "https://dex.test:8443"),
        ({"host": "https://dex.test:8443", "port": 8443}, "https://dex.test:8443"),
        ({"host": "dex.test/api/batches", "port": 8443}, "https://dex.test:8443/api/batches"),
        ({"host": "https://dex.test/api/a%3Ab", "port": 8443}, "https://dex.test:8443/api/a%3Ab"),
        ({"host": "https://dex.test/api/a%3Ab%41/"}, "https://dex.test/api/a%3Ab%41/"),
        ({"host": " https://dex.test/api \n"}, "https://dex.test/api"),
        ({"host": "dex.test ", "schema": "https"}, "https://dex.test"),
    ],
    ids=str,
)
def test_scheme_and_port_may_be_fields_of_their_own(fields: dict[str, Any], base_url: str) -> None:
    conn = Connection(
        conn_id="dex_api",
        conn_type="http",
        login="me",
        password=SECRET,
        extra=json.dumps({"token_url": "https://login.test/token"}),
        **fields,
    )
    assert api_access(conn, default_base_url="", https_only=False)[0] == base_url


def test_two_ports_are_a_contradiction() -> None:
    conn = Connection(conn_id="dex_api", login="me", password=SECRET, host="https://dex.test:8443", port=9443)
    conn.extra = json.dumps({"token_url": "https://login.test/token"})
    with pytest.raises(SettingsError, match=r"host .* names port 8443, but field port says 9443"):
        api_access(conn, default_base_url="")


def test_line_break_at_the_end_of_the_secret_is_dropped() -> None:
    conn = Connection(conn_id="dex_api", login="me\n", password=f"{SECRET}\r\n", host="https://dex.test")
    conn.extra = json.dumps({"token_url": "https://login.test/token\n"})
    _, credentials = api_access(conn, default_base_url="")
    assert (credentials.client_id, credentials.client_secret) == ("me", SECRET)
    assert credentials.token_url == "https://login.test/token"


@pytest.mark.parametrize("conn_id", ["dex_db", "dex_api"])
def test_missing_connection_says_where_it_belongs(conn_id: str, airflow_database: None) -> None:
    with pytest.raises(SettingsUnavailableError, match=f"airflow/connections/{conn_id}"):
        get_connection(conn_id)


@pytest.mark.parametrize("conn_id", ["dex_db", "dex_api"])
def test_connection_that_may_not_be_read_is_a_matter_of_permissions(
    conn_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_secrets(monkeypatch)
    with pytest.raises(SettingsError, match=f"'{conn_id}' .*may not be read: check the execution role's permissions"):
        get_connection(conn_id)


@pytest.mark.parametrize("text", ["{not json " + SECRET, "[1]"])
def test_malformed_connection_is_named_and_not_quoted(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, airflow_database: None
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DEX_API", text)
    # Airflow takes some malformed values for absent ones.
    with pytest.raises((SettingsError, SettingsUnavailableError), match="'dex_api'") as caught:
        dex_api(default_base_url="")
    assert leaks(str(caught.value), SECRET) == []
    assert leaks(caplog.text or "no log", SECRET) == []


def test_s3_client_follows_the_connection_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", ENVIRONMENT["AIRFLOW_CONN_AWS_DEFAULT"])
    client = s3_client(max_connections=33)
    assert client.meta.endpoint_url == "http://aws.test"
    assert client.meta.region_name == "us-east-1"
    config = client.meta.config
    assert config.max_pool_connections == 33
    assert 0 < config.read_timeout <= 60
    assert 0 < config.connect_timeout <= 60
    assert config.retries["total_max_attempts"] <= 5
