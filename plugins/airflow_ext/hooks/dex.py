"""The two connections of the DEX archive: the client database ``dex_db`` and the API ``dex_api``."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from airflow_ext.ids import DEX_API_CONNECTION, DEX_DATABASE_CONNECTION
from airflow_ext.outside import outside
from airflow_ext.settings import get_connection, partner_url
from include.clients.dex import DexApi
from include.clients.tokens import ClientCredentials
from include.errors import DatabaseRefusedError, DatabaseUnavailableError, SettingsError
from include.text import one_line

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

DEFAULT_SCOPE = "dex/trigger:all"
MSSQL_PORT = 1433

_MSSQL_REFUSALS = frozenset(
    {
        # No such column, no such table, no permission.
        *(207, 208, 229),
        # The database: not there, not the login's default, not for this login.
        *(4060, 4064, 916),
        # The login: refused, disabled, locked, its password expired or to be changed, by a trigger, for Windows only.
        *(18456, 18470, 18486, 18487, 18488, 17892, 18450, 18452),
        # Azure: the address of the client, or the server's name.
        *(40532, 40615),
    }
)
"""SQL Server's numbers of errors that a retry does not change; repeated wrong logins lock accounts."""


_OTHER_DRIVERS_WORDS = frozenset({"driver", "encrypt", "Encrypt", "TrustServerCertificate", "trust_server_certificate"})


class MssqlExtra(BaseModel):
    """What extra of an SQL Server connection may say: arguments of ``pymssql.connect``, and our defaults.

    pymssql itself would choose the protocol, not encrypt, and wait without end.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    # 8.0 is pymssql's other name of 7.1; those before have no types for what the query returns.
    tds_version: Literal["7.1", "7.2", "7.3", "7.4", "8.0"] = "7.4"
    encryption: Literal["off", "request", "require"] = "require"
    login_timeout: PositiveInt = 15
    timeout: PositiveInt = 60
    appname: str | None = None
    arraysize: PositiveInt | None = None
    autocommit: bool | None = None
    charset: str | None = None
    conn_properties: str | list[str] | None = None
    read_only: bool | None = None
    sqlalchemy_scheme: str | None = None
    use_datetime2: bool | None = None


def read_rows(sql: str, *, undecoded: str | None = None) -> list[tuple[Any, ...]]:
    """All rows that ``sql`` selects through connection ``dex_db`` (any type with a ``DbApiHook``).

    ``undecoded`` is the same query with texts as bytes, for an SQL Server that has half a surrogate pair in one.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or fails the query.
        DatabaseRefusedError: SQL Server refuses the login or knows no such table; wrong logins lock accounts.
    """
    hook = database_hook(get_connection(DEX_DATABASE_CONNECTION))
    try:
        try:
            rows = hook.get_records(sql)
        except UnicodeDecodeError:
            # NVARCHAR keeps halves, and pymssql then gives no row at all.
            if undecoded is None or hook.connection.conn_type != "mssql":
                raise
            log.warning("a text in the database is not Unicode: it has half a surrogate pair, which is shown escaped")
            rows = hook.get_records(undecoded)
        return [tuple(row) for row in rows]
    except Exception as error:  # noqa: BLE001 - each driver has its own error classes, with no common base
        conn = hook.connection
        address = f"{conn.conn_type} {conn.host}" + (f":{conn.port}" if conn.port else "")
        # A driver's TypeError and ValueError are about its arguments, or about what it read.
        permanent = _error_number(error) in _MSSQL_REFUSALS or isinstance(error, TypeError | ValueError)
        kind = DatabaseRefusedError if permanent else DatabaseUnavailableError
        encrypted = conn.conn_type == "mssql" and conn.extra_dejson.get("encryption") == "require"
        raise kind(
            f"cannot read clients through connection '{DEX_DATABASE_CONNECTION}' ({address}, database "
            f"{conn.schema or 'default'}): {_shown(error, conn)}; check that the database "
            "runs, host, port, login and the tables Client and ClientServiceExt"
            + ("; for a server that cannot encrypt, extra.encryption must be 'request' or 'off'" if encrypted else "")
            # Not chained: Airflow would log the driver's own text.
        ) from None


def database_hook(conn: Connection) -> DbApiHook:
    """The provider's hook for a database connection, SQL Server unless its type says otherwise.

    The secret that the original Lambda read, ``{host, username, password, database, port}``, names no type, no
    protocol and no time-outs, and may name no port: pymssql would then be given the text "None". The secrets that RDS
    writes name the type as ``engine``, such as ``sqlserver-se``.
    """
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    conn.conn_type = conn.conn_type or "mssql"
    if "sqlserver" in conn.conn_type:
        conn.conn_type = "mssql"
    if conn.conn_type == "mssql":
        if not conn.host:
            raise SettingsError(f"connection '{DEX_DATABASE_CONNECTION}': host is missing")
        conn.port = conn.port or MSSQL_PORT
        conn.password = conn.password and conn.password.rstrip("\r\n")
        conn.extra = json.dumps(_mssql_extra(conn.extra_dejson))
    where = f"connection '{DEX_DATABASE_CONNECTION}': type {conn.conn_type!r}"
    try:
        # Given the connection, because a hook that reads it again by its id would not see these defaults.
        hook = conn.get_hook(  # type: ignore[no-untyped-call] # the provider's API is untyped
            hook_params={"connection": conn}
        )
    except TypeError:
        raise SettingsError(f"{where} is no SQL database; use mssql") from None
    except Exception as error:  # noqa: BLE001 - of whatever provider
        raise SettingsError(f"{where} cannot be used: {_shown(error, conn)}") from None
    if not isinstance(hook, DbApiHook):
        raise SettingsError(f"{where} is no SQL database; use mssql")
    return hook


def _mssql_extra(extra: dict[str, Any]) -> dict[str, Any]:
    try:
        return MssqlExtra.model_validate(extra).model_dump(exclude_none=True)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        where = f"connection '{DEX_DATABASE_CONNECTION}': extra.{name}"
        known = name in MssqlExtra.model_fields
        why = fault["msg"] if known else f"is none of {', '.join(MssqlExtra.model_fields)}"
        # Of a name that nobody knows the value may be a secret.
        value = f" is {fault['input']!r}:"[:60] if known or name in _OTHER_DRIVERS_WORDS else ""
        # Not chained: pydantic's error quotes all values.
        raise SettingsError(f"{where}{value} {why}") from None


def dex_api(*, default_base_url: str, https_only: bool = True) -> DexApi:
    """The DEX API of connection ``dex_api``, not yet connected; arguments as of :func:`api_access`."""
    conn = get_connection(DEX_API_CONNECTION)
    base_url, credentials = api_access(conn, default_base_url=default_base_url, https_only=https_only)
    return DexApi(base_url, credentials, http=outside.http)


def api_access(conn: Connection, *, default_base_url: str, https_only: bool = True) -> tuple[str, ClientCredentials]:
    """Base URL and credentials of connection ``dex_api``.

    The secret that the original Lambda read, ``{token_url, client_id, client_secret}``, is taken too: it has no
    type, the secrets backend's ``extra_conn_words`` bring its ``token_url`` as host, and the base URL is that of the
    setting ``dex_api_base_url``, the default.
    """
    extra = conn.extra_dejson
    token_url, base_url = extra.get("token_url"), conn.host
    if not token_url and not conn.conn_type and default_base_url and conn.host:
        token_url, base_url = conn.host, default_base_url
    # Documents put secrets from files, which end with a line break.
    secret = (conn.password or "").rstrip("\r\n")
    required = {
        "extra.token_url (or setting dex_api_base_url, if the secret is the original one)": token_url,
        "login (client id)": conn.login,
        "password (client secret)": secret,
        "host (base URL of the API)": base_url or default_base_url,
    }
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise SettingsError(f"connection '{DEX_API_CONNECTION}': missing {', '.join(missing)}")
    name = "host (base URL of the API)"
    in_parts = bool(base_url) and base_url == conn.host
    url = partner_url(conn, name, str(base_url or default_base_url), https_only=https_only, in_parts=in_parts)
    return url, ClientCredentials(
        # Some name their policy or version in the query, which has to be kept (RFC 6749, 3.2).
        token_url=partner_url(conn, "extra.token_url", str(token_url), https_only=https_only, with_query=True),
        client_id=str(conn.login).rstrip("\r\n"),
        client_secret=secret,
        scope=str(extra.get("scope") or DEFAULT_SCOPE),
        connection=DEX_API_CONNECTION,
    )


def _shown(error: BaseException, conn: Connection) -> str:
    """Type and first line of a driver's error; the type alone if the line may quote the password, in whatever form."""
    line = one_line(next(iter(str(error).splitlines()), "no message"), 300)
    # What no escaping changes: quotes, backslashes and other letters have many forms, which no masker knows.
    parts = re.findall("[A-Za-z0-9]{3,}", conn.password or "")
    quoted = any(part in line for part in parts) if parts else bool(conn.password)
    return f"{type(error).__name__}: {'its text may hold the password and is left out' if quoted else line}"


def _error_number(error: BaseException) -> int | None:
    """SQL Server's number of an error: pymssql's first argument, alone or in a tuple with the text."""
    first = error.args[0] if error.args else None
    number = first[0] if isinstance(first, tuple) and first else first
    return number if isinstance(number, int) else None
