import json
import logging
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
from pydantic import ValidationError

from airflow_ext.settings import (
    Settings,
    call_details_settings,
    delivery_settings,
    load_settings,
    parse_settings,
    require,
)
from include.call_details.keys import Incoming
from include.errors import SettingsError, SettingsUnavailableError
from tests.worlds.airflow import deny_secrets

GOOD: dict[str, Any] = {
    "environment": "local",
    "archive_bucket": "archive",
    "order_results_bucket": "order-results",
    "alerts_topic_arn": "arn:aws:sns:us-east-1:000000000000:alerts",
}
WHERE = "Airflow Variable 'settings'"


def parse(**changes: Any) -> Settings:
    document = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return parse_settings(json.dumps(document))


def test_defaults_are_those_of_the_contract() -> None:
    settings = parse()
    assert settings.business_timezone == "America/New_York"
    assert settings.zone.key == "America/New_York"
    assert settings.trigger_date_offset_days == 0
    assert settings.runbook_url == "docs/RUNBOOK.md"
    assert settings.dex_api_base_url == ""
    assert (settings.max_mapped_clients, settings.clients_per_task, settings.archive_concurrency) == (500, 1500, 64)
    assert settings.auction_results_timeout == 240
    assert (settings.max_mapped_orders, settings.orders_per_task, settings.auction_concurrency) == (100, 50, 4)
    assert settings.rejection_errors == ("OrderRejectedError",)
    assert (settings.max_records_per_batch, settings.max_retries, settings.max_concurrent_calls) == (500, 3, 50)
    assert settings.incoming == Incoming("incoming/", ("*.filepart", "*.tmp", "*.part", "*.partial", ".*"))
    assert (settings.ingest_bucket, settings.ingest_ledger_table, settings.call_details_dlq_url) == ("", "", "")
    assert (settings.max_delivery_attempts, settings.delivery_tasks, settings.delivery_concurrency) == (11, 4, 96)
    assert (settings.events_table, settings.subscriptions_table) == ("", "")
    assert (settings.event_queue_url, settings.event_dlq_url) == ("", "")


def test_fields_that_a_pipeline_wants_are_named_if_they_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps({**GOOD, "event_dlq_url": "https://sqs.test/0/failed"}))
    settings = load_settings()
    assert require(settings, "event_dlq_url") is settings
    with pytest.raises(SettingsError, match=r"^settings: events_table, ingest_bucket missing: deploy the application"):
        require(settings, "event_dlq_url", "events_table", "ingest_bucket")
    with pytest.raises(SettingsError, match=r"events_table, subscriptions_table, event_queue_url missing"):
        delivery_settings()
    with pytest.raises(SettingsError, match=r"ingest_bucket, ingest_ledger_table, call_details_dlq_url missing"):
        call_details_settings()


def test_every_field_is_taken() -> None:
    document = GOOD | {
        "business_timezone": "Europe/Warsaw",
        "trigger_date_offset_days": -1,
        "runbook_url": "https://wiki.test/runbook",
        "dex_api_base_url": "https://dex.test",
        "max_mapped_clients": 1024,
        "clients_per_task": 1,
        "archive_concurrency": 64,
        "archive_lock_mode": "COMPLIANCE",
        "archive_lock_days": 3650,
        "auction_results_timeout": 240,
        "max_mapped_orders": 1024,
        "orders_per_task": 1,
        "auction_concurrency": 64,
        "rejection_errors": ("ValueError", "*"),
        "ingest_bucket": "ingest",
        "incoming_prefix": "",
        "ignored_names": ("*.lock",),
        "ingest_ledger_table": "ingest-ledger-dev",
        "call_details_dlq_url": "https://sqs.test/000000000000/queue",
        "max_records_per_batch": 1,
        "max_retries": 10,
        "max_concurrent_calls": 1,
        "events_table": "events-dev",
        "subscriptions_table": "subscriptions-dev",
        "event_queue_url": "https://sqs.test/000000000000/events",
        "event_dlq_url": "https://sqs.test/000000000000/failed-events",
        "max_delivery_attempts": 1,
        "delivery_tasks": 64,
        "delivery_concurrency": 256,
    }
    assert set(document) == set(Settings.model_fields), "a new field wants a line here and in the table below"
    assert parse(**document).model_dump() == document


NO_BUCKETS = [
    ...,
    "",
    "ab",
    "Archive",
    "s3://archive",
    "archive/",
    "under_score",
    "-archive",
    "archive.",
    "a" * 64,
    "archive\n",
    None,
]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("environment", [..., "", None, 5]),
        ("business_timezone", ["", "Mars/Olympus", "America", "../etc/passwd", "/etc/localtime", 5, None]),
        ("trigger_date_offset_days", ["soon", 1.5, 5000, -5000, None]),
        ("archive_bucket", NO_BUCKETS),
        ("order_results_bucket", NO_BUCKETS),
        ("alerts_topic_arn", [..., "", "alerts", "arn:aws:sqs:us-east-1:0:queue", None]),
        ("runbook_url", ["", "two words", None]),
        ("dex_api_base_url", ["dex.test", "ftp://dex.test", "https://", "https://dex test", None]),
        ("max_mapped_clients", [0, -1, 1025, "many", None]),
        ("clients_per_task", [0, -1, "many", None]),
        ("archive_concurrency", [0, 65, "many", None]),
        ("archive_lock_mode", ["", "compliance", "ON", None]),
        ("archive_lock_days", [-1, 36_501, "long", None]),
        ("auction_results_timeout", [0, -1, 241, "long", None]),
        ("max_mapped_orders", [0, -1, 1025, "many", None]),
        ("orders_per_task", [0, -1, "many", None]),
        ("auction_concurrency", [0, 65, "many", None]),
        ("rejection_errors", ["ValueError", 5, None]),
        ("ingest_bucket", [bucket for bucket in NO_BUCKETS if bucket not in (..., "")]),
        ("incoming_prefix", ["incoming", "/", "/incoming/", "processing/", "processed/2026/", "failed/x/", 5, None]),
        ("ignored_names", [5, None]),
        ("ingest_ledger_table", ["a", "a b", "a/b", 5, None]),
        ("call_details_dlq_url", ["queue", "arn:aws:sqs:us-east-1:0:queue", None]),
        ("max_records_per_batch", [0, 501, "many", None]),
        ("max_retries", [0, 11, "many", None]),
        ("max_concurrent_calls", [0, 1001, "many", None]),
        ("events_table", ["a", "a b", "a/b", 5, None]),
        ("subscriptions_table", ["a", "a b", "a/b", 5, None]),
        ("event_queue_url", ["queue", "arn:aws:sqs:us-east-1:0:queue", None]),
        ("event_dlq_url", ["queue", "arn:aws:sqs:us-east-1:0:queue", None]),
        ("max_delivery_attempts", [0, 101, "many", None]),
        ("delivery_tasks", [0, 65, "many", None]),
        ("delivery_concurrency", [0, 257, "many", None]),
    ],
)
def test_each_fault_names_its_field(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SettingsError) as caught:
            parse(**{field: value})
        assert f"cannot be used: {field}: " in str(caught.value), value
        assert WHERE in str(caught.value)


def test_ignored_names_may_be_separated_by_commas() -> None:
    assert parse(ignored_names=" *.filepart, *.tmp,,.* ").ignored_names == ("*.filepart", "*.tmp", ".*")
    assert parse(ignored_names="").ignored_names == ()


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings('{"archive_concurrency": 0}')
    for field in ("environment", "archive_bucket", "order_results_bucket", "alerts_topic_arn", "archive_concurrency"):
        assert f"{field}: " in str(caught.value)


@pytest.mark.parametrize("text", ["", "not json", "[]", "null", "5", '"settings"', "{'environment': 1}"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=WHERE):
        parse_settings(text)


def test_unknown_fields_only_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings = parse(orders_table="orders", archive_buckt="typo")
    assert settings.archive_bucket == "archive"
    assert "archive_buckt, orders_table" in caplog.text
    assert "typo" not in caplog.text, "names only: a value may be anything"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse().archive_bucket = "other"


def test_settings_come_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(GOOD))
    assert load_settings().archive_bucket == "archive"


def test_variable_that_may_not_be_read_is_a_matter_of_permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    deny_secrets(monkeypatch)
    with pytest.raises(SettingsError, match="may not be read: check the execution role's permissions") as caught:
        load_settings()
    assert WHERE in str(caught.value)
    assert isinstance(caught.value.__cause__, AirflowSecretsBackendAccessDenied)


def test_missing_variable_says_where_it_belongs(airflow_database: None) -> None:
    with pytest.raises(SettingsUnavailableError, match="airflow/variables/settings"):
        load_settings()
