"""The two connections of the DEX archive: the client database ``dex_db`` and the API ``dex_api``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_ext.hooks.connections import get_connection, partner_url
from airflow_ext.ids import DEX_API_CONNECTION, DEX_DATABASE_CONNECTION
from airflow_ext.outside import outside
from include.clients.dex import DexApi
from include.clients.tokens import ClientCredentials
from include.errors import DatabaseRefusedError, DatabaseUnavailableError, SettingsError

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Connection

DEFAULT_SCOPE = "dex/trigger:all"
MSSQL_PORT = 1433
MSSQL_EXTRA = {"tds_version": "7.4", "encryption": "request", "login_timeout": 15, "timeout": 60}
"""What the connection's extra does not say. pymssql itself would choose the protocol, and wait without end."""

_MSSQL_REFUSALS = frozenset({207, 208, 229, 4060, 18452, 18456})
"""SQL Server's numbers for: no such column, no such table, no permission, no such database, login refused (2)."""


def read_rows(sql: str) -> list[tuple[Any, ...]]:
    """All rows that ``sql`` selects through connection ``dex_db`` (any type with a ``DbApiHook``).

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or fails the query.
        DatabaseRefusedError: SQL Server refuses the login or knows no such table; wrong logins lock accounts.
        SettingsUnavailableError: there is no such connection.
        SettingsError: the connection's type cannot run SQL.
    """
    hook = database_hook(get_connection(DEX_DATABASE_CONNECTION))
    try:
        return [tuple(row) for row in hook.get_records(sql)]
    except Exception as error:
        # Each driver has its own error classes, with no common base.
        conn = hook.connection
        address = f"{conn.conn_type} {conn.host}" + (f":{conn.port}" if conn.port else "")
        kind = DatabaseRefusedError if _error_number(error) in _MSSQL_REFUSALS else DatabaseUnavailableError
        raise kind(
            f"cannot read clients through connection '{DEX_DATABASE_CONNECTION}' ({address}, database "
            f"{conn.schema or 'default'}): {type(error).__name__}: {_first_line(error)}; check that the database "
            "runs, host, port, login and the tables Client and ClientServiceExt"
        ) from error


def database_hook(conn: Connection) -> DbApiHook:
    """The provider's hook for a database connection, SQL Server unless its type says otherwise.

    The secret that the original Lambda read, ``{host, username, password, database, port}``, names no type, no
    protocol and no time-outs, and may name no port: pymssql would then be given the text "None".

    Raises:
        SettingsError: the type is not that of an SQL database, or SQL Server without a host.
    """
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    conn.conn_type = conn.conn_type or "mssql"
    if conn.conn_type == "mssql":
        if not conn.host:
            raise SettingsError(f"connection '{DEX_DATABASE_CONNECTION}': host is missing")
        conn.port = conn.port or MSSQL_PORT
        conn.extra = json.dumps(MSSQL_EXTRA | conn.extra_dejson)
    where = f"connection '{DEX_DATABASE_CONNECTION}': type {conn.conn_type!r}"
    try:
        # Given the connection, because a hook that reads it again by its id would not see these defaults.
        hook = conn.get_hook(  # type: ignore[no-untyped-call] # the provider's API is untyped
            hook_params={"connection": conn}
        )
    except TypeError as error:
        raise SettingsError(f"{where} is no SQL database; use mssql") from error
    except Exception as error:
        raise SettingsError(f"{where} cannot be used: {_first_line(error)}") from error
    if not isinstance(hook, DbApiHook):
        raise SettingsError(f"{where} is no SQL database; use mssql")
    return hook


def dex_api(*, default_base_url: str, https_only: bool = True) -> DexApi:
    """The DEX API of connection ``dex_api``, not yet connected; arguments as of :func:`api_access`.

    Raises:
        SettingsUnavailableError: there is no such connection.
        SettingsError: a field is missing; it is named.
    """
    conn = get_connection(DEX_API_CONNECTION)
    base_url, credentials = api_access(conn, default_base_url=default_base_url, https_only=https_only)
    return DexApi(base_url, credentials, http=outside.http)


def api_access(conn: Connection, *, default_base_url: str, https_only: bool = True) -> tuple[str, ClientCredentials]:
    """Base URL and credentials of connection ``dex_api``.

    The secret that the original Lambda read, ``{token_url, client_id, client_secret}``, is taken too: it has no
    type, the secrets backend's ``extra_conn_words`` bring its ``token_url`` as host, and the base URL is the setting's.

    Args:
        conn: connection ``dex_api``.
        default_base_url: setting ``dex_api_base_url``.
        https_only: False in the local environment alone.

    Raises:
        SettingsError: a field is missing or no URL; it is named.
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
        token_url=partner_url(conn, "extra.token_url", str(token_url), https_only=https_only),
        client_id=str(conn.login).rstrip("\r\n"),
        client_secret=secret,
        scope=str(extra.get("scope") or DEFAULT_SCOPE),
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no message")[:300]


def _error_number(error: BaseException) -> int | None:
    """SQL Server's number of an error: pymssql's first argument, alone or in a tuple with the text."""
    first = error.args[0] if error.args else None
    number = first[0] if isinstance(first, tuple) and first else first
    return number if isinstance(number, int) else None
