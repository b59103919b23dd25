"""The auction's part of the demo."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.clients.airflow import AirflowApi
from local.clients.inbox import receive_alerts, slack_messages
from local.demo.report import Exhibit, Report, Tell
from local.stack.description import Stack

DAG_ID = "energy_auction"
MOST_RUNS = 5

# A run without results ends after four minutes; the DAG itself allows none more than five.
_RUN_SECONDS = 300.0
_SCHEDULED_RUN_SECONDS = 15.0


Rejected = tuple["Auction", int, str]
"""A rejected order: its run, its index, its id."""


@dataclass(frozen=True)
class Auction:
    """A run that has ended.

    Args:
        summary: what ``summarize`` left in XCom.
    """

    run_id: str
    state: str
    summary: dict[str, Any]

    @property
    def rejected(self) -> dict[int, str]:
        """Ids of the orders that were not stored, by their index."""
        ids = {index: hashlib.sha256(f"{self.run_id}/{index}".encode()).hexdigest() for index in range(self.total)}
        return {index: order_id for index, order_id in ids.items() if not any(order_id in key for key in self.keys)}

    @property
    def total(self) -> int:
        """How many orders the run had."""
        return int(self.summary["total"])

    @property
    def keys(self) -> list[str]:
        """Where its accepted orders are stored."""
        return list(self.summary["keys"])


def run_auction(stack: Stack, tell: Tell) -> Report:
    """Run auctions until accepted and rejected orders were both seen."""
    started = time.monotonic()
    with AirflowApi(stack) as airflow:
        airflow.unpause(DAG_ID)
        auctions = run_until_both_seen(airflow, tell)
        airflow.unpause(DAG_ID, paused=True)
    return _report(stack, auctions, time.monotonic() - started)


def run_until_both_seen(airflow: AirflowApi, tell: Tell) -> list[Auction]:
    """Run after run, at most :data:`MOST_RUNS`, until both kinds of orders were seen."""
    auctions: list[Auction] = []
    while len(auctions) < MOST_RUNS and not _both_seen(auctions):
        run_id = _next_run(airflow, {auction.run_id for auction in auctions})

        def poll(run_id: str = run_id) -> None:
            tell(airflow.ended_tasks(DAG_ID, run_id), 0)

        run = airflow.wait(DAG_ID, run_id, timeout=_RUN_SECONDS, on_poll=poll, poll=1.0)
        ended = airflow.ended_tasks(DAG_ID, run_id)
        tell(ended, ended)
        auctions.append(Auction(run_id, run["state"], airflow.xcom(DAG_ID, run_id, "summarize")))
    return auctions


def _next_run(airflow: AirflowApi, ended: set[str]) -> str:
    """The oldest run that is not among ``ended``, or else a new one.

    A DAG that is switched on makes up for the slot that has just passed, and every five minutes the schedule may add
    a run: these are as good as any, and a run that is started by hand would have to wait for them.
    """
    deadline = time.monotonic() + (0.0 if ended else _SCHEDULED_RUN_SECONDS)
    while True:
        waiting = [run["dag_run_id"] for run in airflow.runs(DAG_ID) if run["dag_run_id"] not in ended]
        if waiting:
            return str(waiting[0])
        if time.monotonic() > deadline:
            return airflow.trigger(DAG_ID)
        time.sleep(0.5)


def _both_seen(auctions: list[Auction]) -> bool:
    return any(auction.keys for auction in auctions) and any(auction.rejected for auction in auctions)


def _report(stack: Stack, auctions: list[Auction], seconds: float) -> Report:
    bucket, s3 = stack.order_results_bucket, stack.aws("s3")
    rejected = [(auction, index, order_id) for auction in auctions for index, order_id in auction.rejected.items()]
    keys = [key for auction in auctions for key in auction.keys]
    about = f"pipeline {DAG_ID}"
    sns = _of_these(auctions, receive_alerts(stack, containing=about, expected=len(rejected)))
    slack = _of_these(auctions, slack_messages(stack, containing=about))
    stored = {key: _read(s3, bucket, key) for key in keys}
    summaries = [_summary_key(s3, bucket, auction.run_id) for auction in auctions]
    report = Report(
        DAG_ID,
        ", ".join(auction.run_id for auction in auctions),
        ", ".join(sorted({auction.state for auction in auctions})),
        seconds,
        f"{sum(auction.total for auction in auctions)} orders in {len(auctions)} run(s): {len(keys)} accepted and "
        f"stored, {len(rejected)} rejected",
        [f"s3://{bucket}/{key}" for key in [*keys[:1], *summaries]],
        [
            *(Exhibit("an accepted order, read back from S3", stored[key]) for key in keys[:1]),
            *(Exhibit("how a summary in S3 begins", _numbers(_read(s3, bucket, key))) for key in summaries[-1:]),
            *_alert_exhibits(rejected, sns, slack),
        ],
        "Lambda A offers random orders until some are there; each becomes a task of its own, and Lambda B stores or "
        "rejects it. The runs succeed although tasks failed: a rejected order is a result, told once through SNS and "
        "once through Slack, and stops no other order.",
    )
    report.check(f"accepted and rejected orders were both seen within {MOST_RUNS} runs", _both_seen(auctions))
    report.check("every run succeeded", all(auction.state == "success" for auction in auctions))
    report.check(
        "every summary in S3 is the one that the run left in Airflow, and adds up",
        all(
            json.loads(_read(s3, bucket, key)).items() <= auction.summary.items() and _adds_up(auction)
            for key, auction in zip(summaries, auctions, strict=True)
        ),
    )
    report.check(
        f"each of the {len(keys)} accepted orders was read back from S3 under its id",
        all(key.endswith(f"/order_{json.loads(text)['order_id']}.json") for key, text in stored.items()),
    )
    for channel, messages in (("SNS", sns), ("Slack", slack)):
        report.check(
            f"exactly one alert for each of the {len(rejected)} rejected orders came through {channel}",
            all(_mentions(messages, *order) == 1 for order in rejected) and len(messages) == len(rejected),
        )
    return report


def _of_these(auctions: list[Auction], messages: list[str]) -> list[str]:
    """The messages about these runs: the schedule may have started one more by now."""
    return [text for text in messages if any(auction.run_id in text for auction in auctions)]


def _numbers(summary: str) -> str:
    """A summary without its lists."""
    document = json.loads(summary)
    return json.dumps({name: value for name, value in document.items() if not isinstance(value, list)}, indent=2)


def _alert_exhibits(rejected: list[Rejected], sns: list[str], slack: list[str]) -> Iterator[Exhibit]:
    """What went out about the first rejected order."""
    for _, _, order_id in rejected[:1]:
        for title, messages in (
            ("a rejected order's alert, as SNS delivered it to an SQS queue", sns),
            ("the same alert, as Slack's webhook received it", slack),
        ):
            yield from (Exhibit(title, text) for text in messages if order_id in text)


def _adds_up(auction: Auction) -> bool:
    summary = auction.summary
    counted = summary["accepted"] + summary["rejected"] + summary["errored"]
    return bool(counted == auction.total and summary["accepted"] == len(auction.keys) and not summary["errored"])


def _mentions(messages: list[str], auction: Auction, index: int, order_id: str) -> int:
    return sum(auction.run_id in text and order_id in text and f"order {index}" in text for text in messages)


def _summary_key(s3: Any, bucket: str, run_id: str) -> str:
    """Where the run's summary lies, found by looking."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="summaries/")
    (key,) = [item["Key"] for page in pages for item in page.get("Contents", []) if f"/{run_id}.json" in item["Key"]]
    return str(key)


def _read(s3: Any, bucket: str, key: str) -> str:
    return str(s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
