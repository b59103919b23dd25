"""Names that people, dashboards and other DAGs depend on (spec: platform)."""

from __future__ import annotations

from enum import StrEnum

DEX_TRIGGER_ARCHIVE = "dex_trigger_archive"
ENERGY_AUCTION = "energy_auction"
CALL_DETAILS_WATCH = "call_details_watch"
CALL_DETAILS_INGEST = "call_details_ingest"
CALL_DETAILS_REPLAY = "call_details_replay"
EVENT_DELIVERY = "event_delivery"

AWS_CONNECTION = "aws_default"
DEX_DATABASE_CONNECTION = "dex_db"
DEX_API_CONNECTION = "dex_api"
CALL_DETAILS_CONNECTION = "call_details_api"
SLACK_CONNECTION = "slack_alerts"

OWNER = "data-operations"
"""Of all DAGs: whom Airflow's UI names."""

EVENT_QUEUE_ASSET = "event_queue"
"""What wakes the delivery."""

SETTINGS_VARIABLE = "settings"

METRICS_NAMESPACE = "Pipelines"

ALL_PIPELINES = "all"
"""Dimension of the metric ``ReportedFailures``, which an alarm compares with the failed runs that Airflow counts."""


class Tag(StrEnum):
    """The vocabulary of DAG tags."""

    ARCHIVE = "archive"
    AUCTION = "auction"
    CALL_DETAILS = "call-details"
    CONTINUOUS = "continuous"
    DAILY = "daily"
    DEX = "dex"
    EVENTS = "events"
    EVERY_MINUTE = "every-minute"
    FIVE_MINUTES = "five-minutes"
    ON_REQUEST = "on-request"


class XComKey(StrEnum):
    """Keys beside the return value."""

    FAILURE = "failure"
    """Why a task failed, for the summary."""
    PLAN = "plan"
    """Where the run's plan is, ``s3://bucket/key``."""
    ORDERS = "orders"
    """Where the run's orders are and how often the run had been cleared when they were cut into tasks."""
    NO_RESULTS = "no_results"
    """Why the run has nothing to do."""
    FILE = "file"
    """Which file version the run is about."""
    UNREADABLE = "unreadable"
    """Why the run's file cannot be read, whoever tries."""
    DUE = "due"
    """How much a run has to do."""
    DONE = "done"
    """Which run has done this one's work before, and where its receipt is."""
    NOTE = "note"
    """The lines of the run's note, which the scheduler copies to the run as it ends."""
    ALERTED = "alerted"
    """Channels that took the run's alert, and how often the run had been cleared by then."""
