"""The auction's part of the demo."""

from __future__ import annotations

import json
import time
from typing import Any

from local.clients import AirflowApi, receive_alerts, slack_messages
from local.demo.part import TIMEOUT_SECONDS, Part, read
from local.stack.description import Stack

DAG_ID = "energy_auction"
MOST_RUNS = 5
EXPLANATION = (
    "Lambda A offers random orders until some are there; each becomes a task of its own, and Lambda B stores or "
    "rejects it. The runs succeed although tasks failed: a rejected order is a result, reported once through SNS and "
    "once through Slack, and stops no other order."
)

_SCHEDULED_RUN_SECONDS = 15.0


def run_auction(stack: Stack, part: Part) -> None:
    """Run auctions until accepted and rejected orders were both seen."""
    with AirflowApi(stack) as airflow:
        airflow.unpause(DAG_ID)
        summaries = run_until_both_seen(airflow)
        airflow.unpause(DAG_ID, paused=True)
    bucket, ids = stack.order_results_bucket, [summary["run_id"] for summary in summaries]
    keys = [key for summary in summaries for key in summary["keys"]]
    rejected = [order["order_id"] for summary in summaries for order in summary["not_accepted"]]
    stored = {key: read(stack, bucket, key).decode() for key in keys}
    kept = [json.loads(read(stack, bucket, summary["summary"])) for summary in summaries]
    part.what = ", ".join(ids)
    part.result = f"orders: {len(keys)} accepted and stored, {len(rejected)} rejected, as meant; runs: {len(summaries)}"
    part.written = [f"s3://{bucket}/{key}" for key in (*keys[:1], *(summary["summary"] for summary in summaries))]
    part.exhibits["an accepted order, read back from S3"] = next(iter(stored.values()))
    part.checks |= {
        f"accepted and rejected orders were both seen within {MOST_RUNS} runs": both_seen(summaries),
        "every run succeeded": all(summary["state"] == "success" for summary in summaries),
        "every summary in S3 is the one that the run left in Airflow, and adds up": all(
            there.items() <= summary.items()
            and there["total"] == there["accepted"] + there["rejected"]
            and there["accepted"] == len(there["keys"])
            for there, summary in zip(kept, summaries, strict=True)
        ),
        f"each of the {len(keys)} accepted orders was read back from S3 under its id": all(
            key.endswith(f"/order_{json.loads(text)['order_id']}.json") for key, text in stored.items()
        ),
    }
    # The schedule may have started one more run by now.
    sns, slack = (
        [text for text in messages if any(run_id in text for run_id in ids)]
        for messages in (
            receive_alerts(stack, containing=DAG_ID, expected=len(rejected)),
            slack_messages(stack, containing=DAG_ID),
        )
    )
    part.check_alerts(sns, slack, *rejected)
    part.exhibits["an alert, as Slack's webhook received it"] = slack[0] if slack else "none"


def run_until_both_seen(airflow: AirflowApi) -> list[dict[str, Any]]:
    """Run after run, at most :data:`MOST_RUNS`, until both kinds of orders were seen; their summaries and states."""
    summaries: list[dict[str, Any]] = []
    while len(summaries) < MOST_RUNS and not both_seen(summaries):
        run_id = _next_run(airflow, {summary["run_id"] for summary in summaries})
        state = airflow.wait(DAG_ID, run_id, timeout=TIMEOUT_SECONDS, poll=1.0)["state"]
        summaries.append({**airflow.xcom(DAG_ID, run_id, "summarize"), "run_id": run_id, "state": state})
    return summaries


def both_seen(summaries: list[dict[str, Any]]) -> bool:
    """Whether orders were accepted and orders were rejected."""
    return all(any(summary[kind] for summary in summaries) for kind in ("keys", "not_accepted"))


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
