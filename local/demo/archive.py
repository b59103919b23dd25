"""The archive's part of the demo."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from typing import Any

from include.archive.models import client_query
from local.clients.airflow import AirflowApi
from local.clients.inbox import receive_alerts, slack_messages
from local.demo.report import Exhibit, Report, Tell
from local.sample.client_database import BROKEN_CLIENT_ID
from local.stack.description import Stack

DAG_ID = "dex_trigger_archive"
_TIMEOUT_SECONDS = 600.0


def run_archive(stack: Stack, tell: Tell) -> Report:
    """Archive today's answers for all sample clients; one of them is broken on purpose."""
    expected = _expected_clients(stack)
    with AirflowApi(stack) as airflow:
        airflow.unpause(DAG_ID)
        started = time.monotonic()
        run_id = airflow.trigger(DAG_ID)

        def poll() -> None:
            tell(airflow.ended_tasks(DAG_ID, run_id), len(expected) + 2)

        run = airflow.wait(DAG_ID, run_id, timeout=_TIMEOUT_SECONDS, on_poll=poll)
        seconds = time.monotonic() - started
        summary = airflow.xcom(DAG_ID, run_id, "summarize")
        airflow.unpause(DAG_ID, paused=True)
    return _report(stack, run, seconds, summary, expected)


def _report(stack: Stack, run: dict[str, Any], seconds: float, summary: dict[str, Any], expected: set[int]) -> Report:
    bucket, s3 = stack.archive_bucket, stack.aws("s3")
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=summary["manifest"])["Body"].read())
    archived = [line for line in manifest["clients"] if line["outcome"] != "failed"]
    # A run that archived nothing has nothing to show, and its checks below say so.
    example = [f"s3://{bucket}/{archived[0]['key']}", f"... {len(archived)} of these"] if archived else []
    alerts = receive_alerts(stack, containing=run["dag_run_id"], expected=1)
    slack = slack_messages(stack, containing=run["dag_run_id"])
    report = Report(
        DAG_ID,
        run["dag_run_id"],
        run["state"],
        seconds,
        f"{manifest['successful_archives']} of {manifest['total_clients']} clients archived for "
        f"{manifest['trigger_date']}, {manifest['failed_archives']} failed",
        [*example, f"s3://{bucket}/{summary['manifest']}"],
        [Exhibit("the alert, as SNS delivered it", alert) for alert in alerts],
        f"The run is marked failed, and that is meant: client {BROKEN_CLIENT_ID} of the sample data gets an HTML page "
        "from the DEX API, so that you see a failure and its alert. All other clients are archived all the same, and "
        "people get one message for the whole run, through SNS and through Slack.",
    )
    failed = {line["client_id"] for line in manifest["clients"] if line["outcome"] == "failed"}
    report.check(
        f"the manifest accounts for each of the {len(expected)} clients that the query selects",
        {line["client_id"] for line in manifest["clients"]} == expected,
    )
    report.check(f"only client {BROKEN_CLIENT_ID} failed, and the run says so", failed == {BROKEN_CLIENT_ID})
    report.check("the run is failed, because a client is missing", run["state"] == "failed")
    intact = sum(_is_intact(s3, bucket, line) for line in archived)
    report.check(
        f"{intact} archives read back from S3 with the bytes that their SHA-256 names",
        intact == len(archived) == len(expected) - 1,
    )
    report.check("exactly one alert came through SNS, and it names the client", _names_client(alerts))
    report.check("exactly one alert came through Slack, and it names the client", _names_client(slack))
    return report


def _expected_clients(stack: Stack) -> set[int]:
    with closing(sqlite3.connect(stack.client_database)) as database:
        return {row[0] for row in database.execute(client_query())}


def _is_intact(s3: Any, bucket: str, line: dict[str, Any]) -> bool:
    body = s3.get_object(Bucket=bucket, Key=line["key"], VersionId=line["version_id"])["Body"].read()
    return bool(hashlib.sha256(body).hexdigest() == line["sha256"] and len(body) == line["bytes"])


def _names_client(messages: list[str]) -> bool:
    return len(messages) == 1 and f"client {BROKEN_CLIENT_ID}" in messages[0]
