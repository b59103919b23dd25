"""Read an Airflow Connection, and the URLs in it, with errors that say what belongs where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, AirflowSecretsBackendAccessDenied

from include.clients.connections import parse_url
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


def partner_url(conn: Connection, name: str, text: str, *, https_only: bool, in_parts: bool = False) -> str:
    """A partner's URL, checked: a path in it stays as it is, and it holds no secret, as URLs are quoted in errors.

    Args:
        conn: connection that it belongs to.
        name: of its field.
        text: its value; white space around it is dropped.
        https_only: refuse http, which is for the local environment.
        in_parts: scheme and port may be in fields of their own, as the UI's form and a connection's URI have them.

    Raises:
        SettingsError: names the field.
    """
    text, where = text.strip(), f"connection '{conn.conn_id}': {name}"
    if in_parts and "://" not in text:
        text = f"{conn.schema if conn.schema in ('http', 'https') else 'https'}://{text}"
    try:
        url = parse_url(text)
    except ValueError as error:
        # Not chained: it would be logged, and what cannot be read may hold a secret.
        raise SettingsError(f"{where} {error}; write one such as https://api.example.com") from None
    if url.scheme not in ("http", "https") or (https_only and url.scheme == "http"):
        raise SettingsError(f"{where} must begin with https:// (http:// is for the environment 'local' alone)")
    if url.raw_query_string:
        raise SettingsError(f"{where} must hold no query; a secret goes to a field of its own")
    if in_parts and conn.port:
        if url.explicit_port not in (None, conn.port):
            raise SettingsError(f"{where} names port {url.explicit_port}, but field port says {conn.port}; drop one")
        url = url.with_port(conn.port)
    return str(url).removesuffix("/") if url.raw_path == "/" else str(url)
