"""The part of the demo about call details: files are dropped, a batch is refused, and is replayed later."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from include.call_details.keys import INCOMING, PROCESSED, file_version, run_id
from local.clients import AirflowApi, active_runs, has_ended, receive_alerts, slack_messages
from local.demo.part import TIMEOUT_SECONDS, Part, get_json, queue_messages, read, rules, wait_until
from local.partners.app import RECEIVED_PATH
from local.partners.call_details import BATCH_PATH
from local.sample.call_details import write_call_details
from local.stack.description import Stack

INGEST, WATCH, REPLAY = "call_details_ingest", "call_details_watch", "call_details_replay"
BROKEN, REFUSED = "broken.txt.gz", "refused.jsonl"
SAMPLES: dict[str, dict[str, Any]] = {
    "2026-03-08 Łódź+.jsonl": {"records": 20_000},
    BROKEN: {"records": 5_000, "form": "text", "broken_share": 0.01},
    REFUSED: {"records": 25_000},
}
"""Arguments of the generator by file name."""

REFUSED_TEXT = '{"id":22222,'
"""In a record of the longest file only, as all begin alike."""

MOST_CALLS = 50
EXPLANATION = (
    f"The watcher saw the files, claimed each version, and started a run for each. {BROKEN} has broken lines: they are "
    "records too, wrapped as text, and an alert names their bytes that are not UTF-8. The API refused one batch of "
    f"{REFUSED} on purpose: it went to the dead letters, one alert was sent, all other batches went on. Then the API "
    "took it again, and a replay emptied the queue."
)


def run_call_details(stack: Stack, part: Part) -> None:
    """Drop all samples while the API refuses a batch of one, then let it take that batch from a replay."""
    bucket, records = stack.ingest_bucket, sum(sample["records"] for sample in SAMPLES.values())
    runs = drop_samples(stack.aws("s3"), bucket)
    with AirflowApi(stack) as airflow, httpx.Client(base_url=stack.partners_url, timeout=30) as partners:
        refusal = {"path": BATCH_PATH, "contains": REFUSED_TEXT, "status": 422}
        with rules(partners, refusal, latency_ms=200):
            for dag_id in (INGEST, WATCH):
                airflow.unpause(dag_id)
            wait_until(
                lambda: runs <= {run["dag_run_id"] for run in airflow.runs(INGEST) if has_ended(run)},
                f"the end of the runs {', '.join(runs)}",
            )
        for dag_id in (WATCH, INGEST):
            airflow.unpause(dag_id, paused=True)
        states = {run["dag_run_id"]: run["state"] for run in airflow.runs(INGEST)}
        letters = queue_messages(stack, stack.call_details_dlq_url)
        airflow.unpause(REPLAY)
        replay = airflow.wait(REPLAY, airflow.trigger(REPLAY), timeout=TIMEOUT_SECONDS, poll=0.5)
        airflow.unpause(REPLAY, paused=True)
        for waiting in active_runs(airflow, WATCH):
            # A DAG that is paused leaves its runs as they are: the round would wait for the next file.
            airflow.end(WATCH, waiting)
        taken = get_json(partners, RECEIVED_PATH, batches="true")["by_key"]
        most_calls = get_json(partners, "/journal", limit=0)["max_concurrent"][BATCH_PATH]
    keys = [each["Key"] for each in stack.aws("s3").list_objects_v2(Bucket=bucket)["Contents"]]
    receipts = [json.loads(read(stack, bucket, key)) for key in keys if key.startswith("receipts/")]
    accepted, dead = (sum(each[f"records_{how}"] for each in receipts) for how in ("accepted", "dead_lettered"))
    part.what = ", ".join([*states, replay["dag_run_id"]])
    part.result = (
        f"{len(runs)} files, {records:,} records: {accepted:,} accepted, {dead} refused, as meant, and then replayed"
    )
    part.written = [f"s3://{bucket}/{key}" for key in keys if not key.startswith("plans/")]
    part.exhibits["what the receipts in S3 say"] = "\n".join(map(_line, receipts))
    part.exhibits["the dead letter's message"] = "\n".join(json.dumps(each, ensure_ascii=False) for each in letters)
    part.checks |= {
        f"each of the {len(runs)} files got one run of its own, and all succeeded": states
        == dict.fromkeys(runs, "success"),
        f"the receipts add up: {records:,} records read = accepted + dead-lettered": accepted + dead
        == sum(receipt["records_read"] for receipt in receipts)
        == records,
        "each file was moved to processed/, and nothing is left under incoming/ and processing/": (
            len([key for key in keys if key.startswith(PROCESSED)]) == len(runs)
            and not any(key.startswith((INCOMING, "processing/")) for key in keys)
        ),
        f"one batch of {REFUSED} was refused; the one message in the queue names it, without a record": (
            [REFUSED in each["file"]["key"] and REFUSED_TEXT not in str(each) for each in letters] == [True]
        ),
        "the replay delivered it and left the queue empty": replay["state"] == "success"
        and not queue_messages(stack, stack.call_details_dlq_url),
        "in the end the API has taken every batch once, and every record": {each["times"] for each in taken.values()}
        == {1}
        and sum(each["records"] for each in taken.values()) == records,
        f"the API had at most {most_calls} calls at once, of {MOST_CALLS} allowed ones": most_calls <= MOST_CALLS,
    }
    alerts = receive_alerts(stack, containing="pipeline call_details_", expected=2)
    part.check_alerts(alerts, slack_messages(stack, containing="pipeline call_details_"), REFUSED, BROKEN)


def drop_samples(s3: Any, bucket: str) -> set[str]:
    """Put all samples under ``incoming/`` of the bucket; returns the ids of the runs that the watcher is to start."""
    runs = set()
    with tempfile.TemporaryDirectory() as directory:
        for name, sample in SAMPLES.items():
            path, key = Path(directory) / name, f"{INCOMING}{name}"
            write_call_details(path, **sample)
            etag = s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())["ETag"]
            runs.add(run_id(file_version(bucket, key, etag)))
    return runs


def _line(receipt: dict[str, Any]) -> str:
    read_, accepted, dead = (receipt[f"records_{how}"] for how in ("read", "accepted", "dead_lettered"))
    name = receipt["key"].removeprefix(INCOMING)
    return f"{name:<24} {read_:>6} = {accepted:>6} accepted + {dead:>3} dead-lettered"
