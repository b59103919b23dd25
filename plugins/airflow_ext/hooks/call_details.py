"""What the tasks of the call-details DAGs call: the API of connection ``call_details_api``, the bucket, the ledger."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow.sdk import Connection

from airflow_ext.hooks.aws import AwsSession, quick_client, s3_client
from airflow_ext.ids import CALL_DETAILS_CONNECTION
from airflow_ext.outside import outside
from airflow_ext.settings import call_details_settings, get_connection, partner_url
from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import Claims
from include.call_details.poster import PostingContext
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.storage import FileStore
from include.clients.aws import get_parameters
from include.clients.call_details import CallDetailsApi, Gate
from include.clients.dynamodb import ItemTable
from include.clients.http import HttpClient
from include.clients.tokens import Grant, Keys, TokenCache, key_login
from include.errors import AuthRefusedError, KeysChangedError, SettingsError

DEFAULT_ACCESS_KEY_PARAM = "/copyazure/accesskey"
DEFAULT_SECRET_KEY_PARAM = "/copyazure/secretkey"  # noqa: S105 - the name of a parameter


@dataclass(frozen=True)
class Access:
    """How the API is reached: URLs that batches are posted to and of the login, and SSM parameters of the keys."""

    url: str
    auth_url: str
    access_key_param: str
    secret_key_param: str


def access_of(conn: Connection, *, https_only: bool = True) -> Access:
    """What connection ``call_details_api`` says."""
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
    """The API's tokens, which all of this process share, for as long as the keys stay the same."""
    return _shared_login(access, _keys(access, ssm), outside.http)


def _keys(access: Access, ssm: Any) -> Keys:
    return Keys(*get_parameters(ssm, access.access_key_param, access.secret_key_param))


KEYS_CHANGE_SECONDS = 5.0
"""Who changes the two keys puts one after the other: what is read so much later belongs together."""


@functools.cache
def _shared_login(access: Access, keys: Keys, http: HttpClient | None) -> TokenCache:
    log_in = key_login(access.auth_url, keys, http)

    async def fetch() -> Grant:
        try:
            return await log_in()
        except AuthRefusedError as error:
            await outside.pause(KEYS_CHANGE_SECONDS)
            if await asyncio.to_thread(lambda: _keys(access, quick_client("ssm"))) == keys:
                raise
            raise KeysChangedError(f"{error}; they have been changed meanwhile, a retry takes the new ones") from None

    return TokenCache(fetch, attempts=3, clock=outside.monotonic, sleep=outside.pause)


_API = "call-details"


class CallDetailsClients:
    """One task's clients, for a file in the bucket of the settings or another."""

    def __init__(self, bucket: str | None = None) -> None:
        self.settings = call_details_settings()
        self.bucket = bucket or self.settings.ingest_bucket
        self.session = AwsSession()
        self.store = FileStore(s3_client(max_connections=50, session=self.session), self.bucket)
        self.table = ItemTable(quick_client("dynamodb", session=self.session), self.settings.ingest_ledger_table)
        self.claims = Claims(self.table)
        self.limiter = ConcurrencyLimiter(self.table, _API, self.settings.max_concurrent_calls)
        """Of the API's calls, over all tasks."""

    @functools.cached_property
    def dead_letters(self) -> DeadLetters:
        """Of the bucket."""
        s3, sqs = s3_client(max_connections=50, session=self.session), quick_client("sqs", session=self.session)
        return DeadLetters(s3, sqs, self.bucket, self.settings.call_details_dlq_url)

    def api_opener(self) -> Callable[[Gate], CallDetailsApi]:
        """A function that makes the API's client, given the gate that each call has to pass."""
        access = access_of(get_connection(CALL_DETAILS_CONNECTION), https_only=not self.settings.is_local)
        login = call_details_login(access, quick_client("ssm", session=self.session))
        return lambda gate: CallDetailsApi(
            access.url,
            login,
            attempts=self.settings.max_retries,
            gate=gate,
            http=outside.http,
            sleep=outside.pause,
            clock=outside.monotonic,
        )

    def posting_context(self, *, last_try: bool) -> PostingContext:
        """What a chunk is posted with; ``last_try``: no retry of the task follows."""
        return PostingContext(
            store=self.store,
            claims=self.claims,
            limiter=self.limiter,
            dead_letters=self.dead_letters,
            open_api=self.api_opener(),
            last_try=last_try,
        )
