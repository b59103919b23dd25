"""The clients of the call-details DAGs' tasks, made from settings and connections on first use."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from airflow_ext.hooks.aws import AwsSession, quick_client, s3_client
from airflow_ext.hooks.call_details import call_details_access, call_details_api, call_details_login
from airflow_ext.settings import call_details_settings
from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import Claims
from include.call_details.poster import PostingContext
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.storage import FileStore
from include.clients.dynamodb import ItemTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.clients.call_details import CallDetailsApi, Gate

_API = "call-details"


class CallDetailsClients:
    """One task's clients.

    Args:
        bucket: that the task's file lies in, if not the setting's.

    Raises:
        SettingsUnavailableError: there are no settings.
        SettingsError: one that is needed is missing; it is named.
    """

    def __init__(self, bucket: str | None = None) -> None:
        self.settings = call_details_settings()
        self.bucket = bucket or self.settings.ingest_bucket
        self.session = AwsSession()
        self.store = FileStore(s3_client(max_connections=50, session=self.session), self.bucket)
        self.table = ItemTable(quick_client("dynamodb", session=self.session), self.settings.ingest_ledger_table)
        self.claims = Claims(self.table)

    @functools.cached_property
    def limiter(self) -> ConcurrencyLimiter:
        """Of the API's calls, over all tasks."""
        return ConcurrencyLimiter(self.table, _API, self.settings.max_concurrent_calls)

    @functools.cached_property
    def dead_letters(self) -> DeadLetters:
        """Of the bucket."""
        s3, sqs = s3_client(max_connections=50, session=self.session), quick_client("sqs", session=self.session)
        return DeadLetters(s3, sqs, self.bucket, self.settings.call_details_dlq_url)

    def api_opener(self) -> Callable[[Gate], CallDetailsApi]:
        """A function that makes the API's client, given the gate that each call has to pass.

        Raises:
            SettingsUnavailableError: there is no connection ``call_details_api``.
            SettingsError: a field of it is missing or malformed.
            AwsUnavailableError: SSM failed.
            AwsRefusedError: SSM refused, or has no such parameter.
        """
        access = call_details_access(https_only=not self.settings.is_local)
        login = call_details_login(access, quick_client("ssm", session=self.session))
        return lambda gate: call_details_api(access, login, attempts=self.settings.max_retries, gate=gate)

    def posting_context(self) -> PostingContext:
        """What a chunk is posted with; raises what :meth:`api_opener` raises."""
        return PostingContext(
            store=self.store,
            table=self.table,
            claims=self.claims,
            limiter=self.limiter,
            limit=self.settings.max_concurrent_calls,
            dead_letters=self.dead_letters,
            open_api=self.api_opener(),
        )
