"""All that surrounds the tasks of the call-details DAGs: settings, connection, bucket, ledger, queue, API, alerts."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_ext.hooks import call_details
from include.clients.call_details import CallDetailsApi
from include.clients.tokens import Login
from tests.fakes.call_details import ACCESS, LOGIN_URL, POST_URL, SECRET, FakeCallDetails
from tests.fakes.ingest_bucket import BUCKET, FakeIngestBucket
from tests.fakes.ledger_table import TABLE, FakeLedgerTable
from tests.fakes.sqs import QUEUE_URL, FakeSqs
from tests.fakes.wire import TOPIC, Wire
from tests.fakes.world import connection


class FakeSsm:
    """Quacks like a boto3 SSM client; ``parameters`` are its values by name."""

    def __init__(self) -> None:
        self.parameters = {"/copyazure/accesskey": ACCESS, "/copyazure/secretkey": SECRET}
        self.calls = 0

    def get_parameters(self, *, Names: list[str], WithDecryption: bool) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert WithDecryption
        self.calls += 1
        found = [{"Name": name, "Value": self.parameters[name]} for name in Names if name in self.parameters]
        return {"Parameters": found}


@dataclass
class IngestWorld:
    """Set it up by changing its parts before a task runs; look at them afterwards."""

    s3: FakeIngestBucket = field(default_factory=FakeIngestBucket)
    table: FakeLedgerTable = field(default_factory=FakeLedgerTable)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    ssm: FakeSsm = field(default_factory=FakeSsm)
    api: FakeCallDetails = field(default_factory=FakeCallDetails)
    wire: Wire = field(default_factory=Wire)
    metrics: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "environment": "local",
            "archive_bucket": "archive",
            "order_results_bucket": "order-results",
            "alerts_topic_arn": TOPIC,
            "ingest_bucket": BUCKET,
            "ingest_ledger_table": TABLE,
            "call_details_dlq_url": QUEUE_URL,
            "max_records_per_batch": 2,
        }
    )

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the outside for the rest of the test."""
        self._monkeypatch = monkeypatch
        self.wire.attach(monkeypatch)
        self.change_settings()
        connection(
            "call_details_api",
            {"conn_type": "http", "host": POST_URL, "extra": {"auth_url": LOGIN_URL}},
            monkeypatch,
        )
        clients = {"dynamodb": self.table, "sqs": self.sqs, "ssm": self.ssm}
        for module in ("tasks.call_details_clients", "tasks.call_details_replay"):
            monkeypatch.setattr(f"airflow_ext.{module}.quick_client", lambda service, **options: clients[service])
        monkeypatch.setattr("airflow_ext.tasks.call_details_clients.s3_client", lambda **options: self.s3)
        monkeypatch.setattr("airflow_ext.hooks.call_details.Login", functools.partial(Login, transport=self.api))
        monkeypatch.setattr(
            "airflow_ext.hooks.call_details.CallDetailsApi", functools.partial(CallDetailsApi, transport=self.api)
        )
        # Tokens of another test's API.
        call_details._shared_login.cache_clear()
        monkeypatch.setattr("airflow_ext.metrics.publish_metrics", self._publish)
        # Nobody has time for the real pauses between attempts.
        monkeypatch.setattr("include.clients.http.FIRST_SECONDS", 0.001)

    def change_settings(self, **changes: Any) -> None:
        """Put the settings, with changes, where Airflow finds them."""
        self.settings |= changes
        self._monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(self.settings))

    def receipt(self) -> dict[str, Any]:
        """The one receipt in the bucket."""
        (key,) = self.s3.present("receipts/")
        document: dict[str, Any] = json.loads(self.s3.body(key))
        return document

    def posted(self) -> list[Any]:
        """The records that the API was sent, batch by batch."""
        return [json.loads(request.content)["records"] for request in self.api.posted]

    def _publish(self, values: dict[str, float], *, environment: str, pipeline: str) -> None:
        assert environment == "local"
        self.metrics.append((pipeline, values))
