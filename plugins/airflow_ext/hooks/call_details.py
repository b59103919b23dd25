"""The call-details API of connection ``call_details_api``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ext.hooks.connections import get_connection, partner_url
from airflow_ext.ids import CALL_DETAILS_CONNECTION
from airflow_ext.outside import outside
from include.clients.aws import get_parameters
from include.clients.call_details import CallDetailsApi
from include.clients.tokens import Keys, TokenCache, key_login
from include.errors import SettingsError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from include.clients.call_details import Gate
    from include.clients.http import HttpClient

DEFAULT_ACCESS_KEY_PARAM = "/copyazure/accesskey"
DEFAULT_SECRET_KEY_PARAM = "/copyazure/secretkey"  # noqa: S105 - the name of a parameter


@dataclass(frozen=True)
class Access:
    """How the API is reached.

    Args:
        url: that batches are posted to.
        auth_url: of the login.
        access_key_param: SSM parameter that holds the access key.
        secret_key_param: SSM parameter that holds the secret key.
    """

    url: str
    auth_url: str
    access_key_param: str
    secret_key_param: str


def call_details_access(*, https_only: bool = True) -> Access:
    """Read and check the connection.

    Args:
        https_only: False in the local environment alone.

    Raises:
        SettingsUnavailableError: there is no such connection.
        SettingsError: a field is missing or no URL; it is named.
    """
    return access_of(get_connection(CALL_DETAILS_CONNECTION), https_only=https_only)


def access_of(conn: Connection, *, https_only: bool = True) -> Access:
    """What connection ``call_details_api`` says; argument as of :func:`call_details_access`.

    Raises:
        SettingsError: a field is missing or no URL; it is named.
    """
    extra = conn.extra_dejson
    required = {"host (URL that batches are posted to)": conn.host, "extra.auth_url": extra.get("auth_url")}
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise SettingsError(f"connection '{CALL_DETAILS_CONNECTION}': missing {', '.join(missing)}")
    host, auth_url = required
    return Access(
        partner_url(conn, host, str(conn.host), https_only=https_only, in_parts=True),
        partner_url(conn, auth_url, str(extra["auth_url"]), https_only=https_only),
        str(extra.get("access_key_param") or DEFAULT_ACCESS_KEY_PARAM),
        str(extra.get("secret_key_param") or DEFAULT_SECRET_KEY_PARAM),
    )


def call_details_login(access: Access, ssm: Any) -> TokenCache:
    """The API's tokens, which all of this process share, for as long as the keys stay the same.

    Raises:
        AwsUnavailableError: SSM failed.
        AwsRefusedError: a parameter does not exist, or SSM refused.
    """
    access_key, secret_key = get_parameters(ssm, access.access_key_param, access.secret_key_param)
    return _shared_login(access.auth_url, Keys(access_key, secret_key), outside.http)


def call_details_api(access: Access, login: TokenCache, *, attempts: int, gate: Gate) -> CallDetailsApi:
    """The API, not yet connected.

    Args:
        access: how it is reached.
        login: see :func:`call_details_login`.
        attempts: how often a batch is sent in all.
        gate: entered for each call.
    """
    return CallDetailsApi(
        access.url,
        login,
        attempts=attempts,
        gate=gate,
        http=outside.http,
        sleep=outside.pause,
        clock=outside.monotonic,
    )


@functools.cache
def _shared_login(auth_url: str, keys: Keys, http: HttpClient | None) -> TokenCache:
    fetch = key_login(auth_url, keys, http)
    return TokenCache(fetch, attempts=3, clock=outside.monotonic, sleep=outside.pause)
