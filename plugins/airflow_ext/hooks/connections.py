"""Read an Airflow Connection, and the URLs in it, with errors that say what belongs where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, AirflowSecretsBackendAccessDenied

from include.clients.http import parse_url
from include.errors import SettingsError, SettingsUnavailableError

if TYPE_CHECKING:
    from airflow.sdk import Connection


def get_connection(conn_id: str) -> Connection:
    """The Connection ``conn_id``.

    Raises:
        SettingsUnavailableError: there is none, or its store cannot be reached.
        SettingsError: Airflow may not read it.
    """
    where = f"connection '{conn_id}' (Secrets Manager: airflow/connections/{conn_id})"
    try:
        return BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError) as error:
        raise SettingsUnavailableError(
            f"{where} was not found or is not valid JSON, or its store is out of reach; put its JSON there"
        ) from error
    except AirflowSecretsBackendAccessDenied as error:
        raise SettingsError(f"{where} may not be read: check the execution role's permissions") from error


def absolute_url(conn: Connection, host: str) -> str:
    """A connection's host as a URL: one made in the UI or from a URI holds scheme, host and port apart."""
    if "://" in host:
        return host
    scheme = conn.schema if conn.schema in ("http", "https") else "https"
    return f"{scheme}://{host}" + (f":{conn.port}" if conn.port else "")


def check_url(conn_id: str, name: str, text: str) -> None:
    """Refuse what is no URL, or holds a secret: URLs are quoted in errors.

    Args:
        conn_id: of the connection.
        name: of the field.
        text: its value.

    Raises:
        SettingsError: names the field.
    """
    where = f"connection '{conn_id}': {name}"
    try:
        url = parse_url(text)
    except ValueError as error:
        # Not chained: it would be logged, and what cannot be read may hold a secret.
        raise SettingsError(f"{where} {error}; write one such as https://api.example.com") from None
    if url.scheme not in ("http", "https"):
        raise SettingsError(f"{where} must begin with https://")
    if url.raw_query_string:
        raise SettingsError(f"{where} must hold no query; a secret goes to a field of its own")
