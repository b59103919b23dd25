"""The archive's part of the demo."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from typing import Any

from include.archive.models import client_query
from local.clients import AirflowApi, pause_when_idle, receive_alerts, slack_messages
from local.demo.part import Part, read
from local.sample.client_database import BROKEN_CLIENT_ID
from local.stack.description import Stack
from ops.evidence import Verification

DAG_ID = "dex_trigger_archive"
EXPLANATION = (
    f"The run is marked failed, and that is meant: client {BROKEN_CLIENT_ID} of the sample data gets an HTML page from "
    "the DEX API, so that you see a failure and its alert. All other clients are archived, and there is one message "
    "for the whole run, through SNS and through Slack."
)


def prove(s3: Any, bucket: str, key: str) -> dict[str, bool]:
    """Verify the evidence, forge an answer, verify again, take it away; what was to be seen, and whether it was."""
    findings, read_ = Verification(s3, bucket).run()
    forged = s3.put_object(Bucket=bucket, Key=key, Body=b'{"forged": true}')["VersionId"]
    found, _ = Verification(s3, bucket).run()
    s3.delete_object(Bucket=bucket, Key=key, VersionId=forged)
    return {
        f"ledger, manifest and {read_['answers']} answers are proven (ops evidence verify)": not findings,
        f"an answer that was forged for a moment is found: {key}": [each.where for each in found]
        == [f"{key} ({forged})"],
    }


def run_alone(airflow: AirflowApi) -> dict[str, Any]:
    """The run of the archive that is started here, as it ended; by then no run is left, and none begins any more.

    Within an hour of its time, the schedule starts one as well when the DAG is switched on.
    """
    airflow.unpause(DAG_ID)
    run = airflow.wait(DAG_ID, airflow.trigger(DAG_ID), timeout=600)
    pause_when_idle(airflow, DAG_ID)
    return run


def run_archive(stack: Stack, part: Part) -> None:
    """Archive today's responses for all sample clients; one of them is broken on purpose."""
    with closing(sqlite3.connect(stack.client_database)) as database:
        expected = {row[0] for row in database.execute(client_query())}
    with AirflowApi(stack) as airflow:
        run = run_alone(airflow)
        key = airflow.xcom(DAG_ID, run["dag_run_id"], "summarize")["manifest"]
    manifest = json.loads(read(stack, stack.archive_bucket, key))
    archived = [line for line in manifest["clients"] if line["outcome"] != "failed"]
    intact = [
        hashlib.sha256(read(stack, stack.archive_bucket, line["key"])).hexdigest() == line["sha256"]
        for line in archived
    ]
    part.what = run["dag_run_id"]
    part.result = (
        f"{run['state']}{', as meant' * (run['state'] == 'failed')}: {len(archived)} of {manifest['total_clients']} "
        f"clients archived for {manifest['trigger_date']}, {manifest['failed_archives']} failed"
    )
    part.written = [f"s3://{stack.archive_bucket}/{each}" for each in (archived[0]["key"], key)]
    part.checks |= {
        f"the manifest accounts for each of the {len(expected)} clients that the query selects": {
            line["client_id"] for line in manifest["clients"]
        }
        == expected,
        f"only client {BROKEN_CLIENT_ID} failed, and the run is failed": run["state"] == "failed"
        and {line["client_id"] for line in manifest["clients"]} - {line["client_id"] for line in archived}
        == {BROKEN_CLIENT_ID},
        f"{len(intact)} archives read back from S3 with the bytes that their SHA-256 names": all(intact)
        and len(intact) == len(expected) - 1,
        **prove(stack.aws("s3"), stack.archive_bucket, archived[0]["key"]),
    }
    alerts = receive_alerts(stack, containing=part.what, expected=1)
    part.check_alerts(alerts, slack_messages(stack, containing=part.what), f"client {BROKEN_CLIENT_ID}")
