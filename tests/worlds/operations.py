"""The operations page over fakes: its routes, asked by users of each role."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import httpx
import pytest
from airflow.api_fastapi.app import init_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI

from airflow_ext.operations.app import create_app
from airflow_ext.operations.reading import Source
from airflow_ext.outside import outside
from include.archive.manifests import record_run
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, read_response
from include.archive.store import ArchiveStore
from tests.worlds.dynamodb import EVENTS, SUBSCRIPTIONS, TABLE, FakeEventTables, FakeLedgerTable
from tests.worlds.roles import USERS
from tests.worlds.s3 import FakeS3, VersionedBucket, at_once
from tests.worlds.sqs import QUEUE_URL, FakeSqs

SETTINGS = {
    "environment": "local",
    "archive_bucket": "archive",
    "alerts_topic_arn": "arn:aws:sns:us-east-1:000000000000:alerts",
    "order_results_bucket": "archive",
    "ingest_bucket": "archive",
    "ingest_ledger_table": TABLE,
    "call_details_dlq_url": QUEUE_URL,
    "events_table": EVENTS,
    "subscriptions_table": SUBSCRIPTIONS,
    "event_queue_url": QUEUE_URL,
    "event_dlq_url": QUEUE_URL,
}
"""The fake of S3 has one bucket, that of SQS one queue."""

NOW = 1_773_000_000.0
"""8 March 2026 in New York."""
TODAY = date(2026, 3, 8)


class Tables:
    """A boto3 DynamoDB client with the tables of call details and of events."""

    def __init__(self) -> None:
        self.ledger = FakeLedgerTable()
        self.events = FakeEventTables()

    def __getattr__(self, operation: str) -> Any:
        return lambda *arguments, **request: getattr(self._table(arguments, request), operation)(*arguments, **request)

    def _table(self, arguments: tuple[Any, ...], request: dict[str, Any]) -> Any:
        names = {request.get("TableName"), *request.get("RequestItems", ())}
        return self.ledger if TABLE in names or arguments else self.events


@dataclass
class OperationsPage:
    """The page's application and what it reads."""

    app: FastAPI
    s3: FakeS3
    tables: Tables
    sqs: FakeSqs
    tokens: dict[str, str]

    def ask(self, path: str, *, user: str | None = "admin", method: str = "GET", **options: Any) -> httpx.Response:
        """What a user is answered; None is somebody who is not logged in."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow.test") as client:
                return await client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)

        return asyncio.run(request())

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        answer = self.ask(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def archive(self, day: date, answers: dict[int, bytes | str], *, name: str = "Client", run: str = "r1") -> None:
        """A run of that day: a body for each client, or a text: why it failed."""
        s3: Any = self.s3
        store = ArchiveStore(s3, "archive")
        outcomes = [
            at_once(store.save(client, day, read_response(body), force=True))
            if isinstance(body, bytes)
            else ClientOutcome(client, Result.FAILED, error=body)
            for client, body in sorted(answers.items())
        ]
        clients = tuple(Client(client, f"{name} {client}") for client in sorted(answers))
        plan = Plan(run, 0, day, force=False, concurrency=1, base_url="", clients=clients, slices=())
        document = Manifest(plan, tuple(outcomes)).to_document()
        record_run(s3, "archive", document)


# Making the routes takes longer than asking one.
_app = cache(create_app)


@contextmanager
def operations_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsPage]:
    """The page, with nothing in AWS yet."""
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.worlds.roles.RolesAuthManager")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", ",".join(f"{u}:{r}" for u, r in USERS.items()))
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0123456789" * 7)
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(SETTINGS))
    purge_cached_app()
    manager = init_auth_manager()
    s3, tables, sqs = VersionedBucket(), Tables(), FakeSqs()
    users = [SimpleAuthManagerUser(username=name, role=role) for name, role in USERS.items()]
    tokens = {user.get_name(): manager.generate_jwt(user) for user in users}
    app = _app()
    # All that it remembers.
    app.state.source = Source()
    aws = {"s3": s3, "dynamodb": tables, "sqs": sqs}
    # No time passes: what is slow on this machine reads no less.
    with outside.replaced(aws=aws, now=lambda: NOW, monotonic=lambda: 0.0, within=lambda work, _: work):
        yield OperationsPage(app, s3, tables, sqs, tokens)
    purge_cached_app()
