"""What the ingest's part of the demo finds: read back from Airflow, from AWS and from the stub of the API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from local.airflow_api import AirflowApi
from local.demo_ingest_files import Batches
from local.demo_kit import ask, peek
from local.inbox import receive_alerts, slack_messages
from local.partners.management import RECEIVED_PATH
from local.stack import Stack

INGEST_DAG_ID = "call_details_ingest"
REPLAY_DAG_ID = "call_details_replay"

_ABOUT = "pipeline call_details_"

Document = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What lay there when all runs of the ingest had ended.

    Args:
        runs: states of the ingest's runs by their ids.
        keys: all keys of the ingest bucket.
        receipts: by their keys.
        letters: messages of the queue.
        bodies: what these point to, in their order.
        taken: what the API had taken.
    """

    runs: dict[str, str]
    keys: list[str]
    receipts: dict[str, Document]
    letters: list[Document]
    bodies: list[bytes]
    taken: Batches


@dataclass(frozen=True)
class Replayed:
    """What there was after the replay.

    Args:
        run_id: of the replay.
        state: of that run.
        summary: what it left in XCom.
        waiting: messages in the queue.
        taken: what the API had taken by then.
        sns: alerts of the ingest and the replay together, as is the next.
        slack: the same, as Slack's webhook received them.
    """

    run_id: str
    state: str
    summary: Document
    waiting: int
    taken: Batches
    sns: list[str]
    slack: list[str]


def find(stack: Stack, airflow: AirflowApi, partners: httpx.Client) -> Found:
    """All that the ingest left."""
    bucket, s3 = stack.ingest_bucket, stack.aws("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    receipts = {
        key: json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        for key in keys
        if key.startswith("receipts/")
    }
    letters = peek(stack, stack.call_details_dlq_url)
    pointers = [letter["body"] for letter in letters]
    return Found(
        runs={run["dag_run_id"]: run["state"] for run in airflow.runs(INGEST_DAG_ID)},
        keys=keys,
        receipts=receipts,
        letters=letters,
        bodies=[
            s3.get_object(Bucket=bucket, Key=each["key"], VersionId=each["version_id"])["Body"].read()
            for each in pointers
        ],
        taken=ask(partners, RECEIVED_PATH, batches="true")["by_key"],
    )


def find_replayed(stack: Stack, airflow: AirflowApi, partners: httpx.Client, run: Document) -> Replayed:
    """All that there is after ``run`` of the replay; takes the alerts of the whole part off their queue."""
    return Replayed(
        run_id=run["dag_run_id"],
        state=run["state"],
        summary=airflow.xcom(REPLAY_DAG_ID, run["dag_run_id"], "replay"),
        waiting=_queue_length(stack),
        taken=ask(partners, RECEIVED_PATH, batches="true")["by_key"],
        sns=receive_alerts(stack, containing=_ABOUT, expected=1),
        slack=slack_messages(stack, containing=_ABOUT),
    )


def _queue_length(stack: Stack) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.aws("sqs").get_queue_attributes(QueueUrl=stack.call_details_dlq_url, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)
