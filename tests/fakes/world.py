"""All that surrounds the archive's tasks: settings, connections, client database, DEX API, S3, alerts."""

from __future__ import annotations

import functools
import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from include.clients.dex import DexApi
from tests.fakes.dex import BASE_URL, SECRET, TOKEN_URL, FakeDex
from tests.fakes.s3 import FakeS3
from tests.fakes.wire import TOPIC, Wire

WITHOUT_CREDENTIALS = 9001
"""A client in the database that the query must leave out."""


@dataclass
class World:
    """Set it up by changing its parts before a task runs; look at them afterwards."""

    database: Path
    dex: FakeDex = field(default_factory=FakeDex)
    s3: FakeS3 = field(default_factory=FakeS3)
    wire: Wire = field(default_factory=Wire)
    metrics: list[dict[str, float]] = field(default_factory=list)
    metrics_error: BaseException | None = None
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "environment": "local",
            "archive_bucket": "archive",
            "order_results_bucket": "order-results",
            "alerts_topic_arn": TOPIC,
            "archive_concurrency": 4,
        }
    )

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the outside for the rest of the test."""
        self._monkeypatch = monkeypatch
        self.wire.attach(monkeypatch)
        self.set_clients([11, 12, 13])
        self.change_settings()
        connection("dex_db", {"conn_type": "sqlite", "host": str(self.database)}, monkeypatch)
        connection(
            "dex_api",
            {
                "conn_type": "http",
                "host": BASE_URL,
                "login": "dex-client",
                "password": SECRET,
                "extra": {"token_url": TOKEN_URL, "scope": "dex/trigger:all"},
            },
            monkeypatch,
        )
        monkeypatch.setattr("airflow_ext.hooks.dex.DexApi", functools.partial(DexApi, transport=self.dex))
        monkeypatch.setattr("airflow_ext.tasks.dex_trigger_archive.s3_client", lambda **options: self.s3)
        monkeypatch.setattr("airflow_ext.metrics.publish_metrics", self._publish)

    def change_settings(self, **changes: Any) -> None:
        """Put the settings, with changes, where Airflow finds them."""
        self.settings |= changes
        self._monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(self.settings))

    def set_clients(self, ids: list[int]) -> None:
        """Fill the client database."""
        self.database.unlink(missing_ok=True)
        with sqlite3.connect(self.database) as database:
            database.executescript(
                """
                CREATE TABLE Client (ClientID INTEGER, name TEXT, OAuth2ClientCredentialsID INTEGER);
                CREATE TABLE ClientServiceExt (ClientID INTEGER, ServiceID INTEGER);
                """
            )
            rows = [(number, f"Client {number}", 1) for number in ids]
            database.executemany("INSERT INTO Client VALUES (?, ?, ?)", rows)
            database.execute("INSERT INTO Client VALUES (?, 'Left out', NULL)", (WITHOUT_CREDENTIALS,))
            services = [(number, 2) for number in [*ids, WITHOUT_CREDENTIALS]]
            database.executemany("INSERT INTO ClientServiceExt VALUES (?, ?)", services)
        database.close()

    def manifest(self) -> dict[str, Any]:
        """The one manifest in the bucket."""
        (key,) = self.s3.keys("manifests/")
        document: dict[str, Any] = json.loads(self.s3.bodies(key)[-1] or b"")
        return document

    def _publish(self, values: dict[str, float], *, environment: str, pipeline: str) -> None:
        if self.metrics_error is not None:
            raise self.metrics_error
        assert (environment, pipeline) == ("local", "dex_trigger_archive")
        self.metrics.append(values)


def connection(conn_id: str, value: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a connection where Airflow finds it."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
