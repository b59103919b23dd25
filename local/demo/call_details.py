"""The call-details ingest's part of the demo: files are dropped, a batch is refused, and is replayed later.

The files that the ingest's part of the demo drops, and the batches that are to come of them.

The batches are worked out here from the contract, line by line and in memory, and not by the pipeline's own code: what
the API took is compared with them.

What the ingest's part of the demo finds: read back from Airflow, from AWS and from the stub of the API.

What the ingest's part of the demo shows, and what it holds the ingest to.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import batched
from pathlib import Path
from typing import Any

import httpx

from include.call_details.keys import INCOMING, PROCESSED, file_version, idempotency_key, run_id
from include.call_details.models import FileVersion
from local.clients.airflow import AirflowApi, active_runs, has_ended
from local.clients.inbox import receive_alerts, slack_messages
from local.demo.report import Exhibit, Report, Tell, ask, peek, rules
from local.partners.app import RECEIVED_PATH
from local.partners.call_details import BATCH_PATH
from local.processes.supervisor import StackError
from local.sample.call_details import write_call_details
from local.stack.description import Stack

RECORDS_PER_BATCH = 500

Batches = dict[str, dict[str, Any]]
"""By idempotency key: ``records``, ``sha256`` and ``times``, as the stub of the API shows what it took."""


@dataclass(frozen=True)
class Sample:
    """A file of the demo.

    Args:
        name: what it is called under ``incoming/``; a ``.gz`` at the end compresses it.
        records: how many it holds.
        form: ``json`` or ``text``.
        broken_share: share of its lines that are broken.
    """

    name: str
    records: int
    form: str = "json"
    broken_share: float = 0.0


SAMPLES = (
    Sample("2026-03-08 Łódź+.jsonl", 20_000),
    Sample("broken.txt.gz", 5_000, form="text", broken_share=0.01),
    Sample("refused.jsonl", 25_000),
)
REFUSED = SAMPLES[2]
REFUSED_RECORD = 22_222
"""Of :data:`REFUSED` only, which is the longest: it is not in the others, though they begin alike."""
REFUSED_TEXT = f'{{"id":{REFUSED_RECORD},'
REFUSED_BATCH = (REFUSED_RECORD - 1) // RECORDS_PER_BATCH


@dataclass(frozen=True)
class Dropped:
    """A file that lies under ``incoming/``.

    Args:
        sample: what it was made from.
        file: its version.
        records: each as the JSON text that the API is to get.
        invalid_bytes: bytes of its text that are not UTF-8.
    """

    sample: Sample
    file: FileVersion
    records: tuple[str, ...]
    invalid_bytes: int

    @cached_property
    def batches(self) -> Batches:
        """What the API is to take, each batch once."""
        return {
            idempotency_key(self.file, number): {
                "records": len(records),
                "sha256": hashlib.sha256(",".join(records).encode()).hexdigest(),
                "times": 1,
            }
            for number, records in enumerate(batched(self.records, RECORDS_PER_BATCH))
        }


def drop_samples(s3: Any, bucket: str) -> list[Dropped]:
    """Put all samples under ``incoming/`` of the bucket. ``s3`` is a boto3 client."""
    with tempfile.TemporaryDirectory() as directory:
        return [_drop(s3, bucket, sample, Path(directory) / sample.name) for sample in SAMPLES]


def records_of(text: bytes) -> tuple[str, ...]:
    """The records of a file's text, each as JSON: its non-blank lines, wrapped if they are not JSON."""
    lines = [line.strip() for line in text.decode(errors="replace").split("\n")]
    return tuple(_record(line, number) for number, line in enumerate(filter(None, lines), start=1))


def _drop(s3: Any, bucket: str, sample: Sample, path: Path) -> Dropped:
    write_call_details(path, records=sample.records, form=sample.form, broken_share=sample.broken_share)
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    key = f"{INCOMING}{sample.name}"
    etag = s3.put_object(Bucket=bucket, Key=key, Body=content)["ETag"]
    # No sequence that the generator writes has more than one such byte.
    invalid = text.decode(errors="replace").count("\ufffd")
    return Dropped(sample, file_version(bucket, key, etag), records_of(text), invalid)


def _record(line: str, number: int) -> str:
    try:
        json.loads(line, parse_constant=_refuse)
    except ValueError:
        return json.dumps({"data": line, "lineNumber": number}, ensure_ascii=False, separators=(",", ":"))
    return line


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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


MOST_CALLS = 50
"""How many calls of the API there may be at once."""

_SHOWN_OF_A_BODY = 300


def report_on(
    dropped: list[Dropped],
    found: Found,
    replayed: Replayed,
    *,
    seconds: float,
    most_calls: int,
    active: list[str],
) -> Report:
    """The part's report, checks included.

    Args:
        dropped: the files.
        found: before the replay.
        replayed: after it.
        seconds: that all of it took.
        most_calls: most calls that the API saw at once.
        active: runs that have not ended.
    """
    receipts = _receipts_of(dropped, found)
    records = sum(len(each.records) for each in dropped)
    accepted = sum(int(receipt.get("records_accepted", 0)) for receipt in receipts)
    report = Report(
        "call details",
        ", ".join([*found.runs, replayed.run_id]),
        ", ".join(sorted({*found.runs.values(), replayed.state})),
        seconds,
        f"{len(dropped)} files, {records:,} records: {accepted:,} accepted, then "
        f"{replayed.summary['accepted']} refused batch replayed",
        [f"s3://{dropped[0].file.bucket}/{key}" for key in found.keys if not key.startswith("plans/")],
        list(_exhibits(receipts, found, replayed)),
        "The watcher saw the files, claimed each version, and started a run for each. One file has broken lines: they "
        f"are records all the same, wrapped as text. The API refused one batch of {REFUSED.name} on purpose: it went "
        "to the dead letters, people got one alert, all other batches went on. Then the API took it again, and a "
        "replay emptied the queue, under the idempotency key that the batch had before.",
    )
    _check_ingest(report, dropped, receipts, found)
    _check_dead_letter(report, dropped, found)
    _check_replay(report, dropped, replayed)
    report.check(
        f"the API had at most {most_calls} calls at once, of the {MOST_CALLS} that are allowed",
        0 < most_calls <= MOST_CALLS,
    )
    report.check("no run is left waiting now that the DAGs are paused again", not active)
    return report


def _check_ingest(report: Report, dropped: list[Dropped], receipts: list[Document], found: Found) -> None:
    report.check(
        f"each of the {len(dropped)} files got one run of its own, and all succeeded",
        found.runs == {run_id(each.file): "success" for each in dropped},
    )
    report.check(
        "each file's receipt adds up: records read = accepted + dead-lettered, as many as the file has lines",
        all(_adds_up(receipt, each) for receipt, each in zip(receipts, dropped, strict=True)),
    )
    report.check(
        "each file was moved to processed/, and nothing is left under incoming/ and processing/",
        all(str(receipt.get("stored_as")).startswith(PROCESSED) for receipt in receipts)
        and {receipt.get("stored_as") for receipt in receipts} <= set(found.keys)
        and not any(key.startswith((INCOMING, "processing/")) for key in found.keys),
    )


def _adds_up(receipt: Document, file: Dropped) -> bool:
    wanted = {
        "records_read": len(file.records),
        "batches_read": len(file.batches),
        "batches_dead_lettered": int(file.sample == REFUSED),
        "invalid_bytes": file.invalid_bytes,
    }
    return wanted.items() <= receipt.items() and all(
        receipt[f"{what}_accepted"] + receipt[f"{what}_dead_lettered"] == receipt[f"{what}_read"]
        for what in ("records", "batches")
    )


def _check_dead_letter(report: Report, dropped: list[Dropped], found: Found) -> None:
    refused = _refused_key(dropped)
    report.check(
        f"only batch {REFUSED_BATCH} of {REFUSED.name} was refused, the other {len(_batches(dropped)) - 1} were taken",
        found.taken == {key: batch for key, batch in _batches(dropped).items() if key != refused},
    )
    report.check(
        "the queue's one message names it and holds no record; the body in S3 is the one whose SHA-256 it names",
        [letter["idempotency_key"] for letter in found.letters] == [refused]
        and REFUSED_TEXT not in str(found.letters[0])
        and REFUSED_TEXT.encode() in found.bodies[0]
        and hashlib.sha256(found.bodies[0]).hexdigest() == found.letters[0]["body"]["sha256"],
    )


def _check_replay(report: Report, dropped: list[Dropped], replayed: Replayed) -> None:
    for channel, messages in (("SNS", replayed.sns), ("Slack", replayed.slack)):
        report.check(
            f"exactly one alert came through {channel}, and it names the file",
            len(messages) == 1 and REFUSED.name in messages[0],
        )
    report.check(
        "the replay delivered the batch and left the queue empty",
        (replayed.state, replayed.summary["accepted"], replayed.waiting) == ("success", 1, 0),
    )
    report.check(
        "in the end the API has every record exactly once, to the letter: the SHA-256 of every batch fits the files",
        replayed.taken == _batches(dropped),
    )


def _exhibits(receipts: list[Document], found: Found, replayed: Replayed) -> Iterator[Exhibit]:
    yield Exhibit("what the receipts in S3 say", "\n".join(_lines(receipts)))
    for letter, body in zip(found.letters, found.bodies, strict=True):
        yield Exhibit("a dead letter's message in the queue", json.dumps(letter, indent=2, ensure_ascii=False))
        yield Exhibit("how its body in S3 begins", f"{body[:_SHOWN_OF_A_BODY].decode(errors='replace')}...")
    yield from (Exhibit("the alert, as SNS delivered it", text) for text in replayed.sns)
    yield Exhibit("what the replay left in XCom", json.dumps(replayed.summary))


def _lines(receipts: list[Document]) -> Iterator[str]:
    row = "{:<24} {:>7} = {:>8} + {:<13}  {}"
    yield row.format("file", "records", "accepted", "dead-lettered", "batches")
    for receipt in filter(None, receipts):
        read, accepted, dead = (f"{receipt[f'records_{how}']:,}" for how in ("read", "accepted", "dead_lettered"))
        batches = "{batches_read} = {batches_accepted} + {batches_dead_lettered}".format_map(receipt)
        yield row.format(receipt["key"].removeprefix(INCOMING), read, accepted, dead, batches)


def _receipts_of(dropped: list[Dropped], found: Found) -> list[Document]:
    """The receipts in the order of the files, empty where there is none: the checks then say so."""
    by_file = {(each["key"], each["etag"]): each for each in found.receipts.values()}
    return [by_file.get((each.file.key, each.file.etag), {}) for each in dropped]


def _batches(dropped: list[Dropped]) -> Batches:
    return {key: batch for each in dropped for key, batch in each.batches.items()}


def _refused_key(dropped: list[Dropped]) -> str:
    (file,) = [each.file for each in dropped if each.sample == REFUSED]
    return idempotency_key(file, REFUSED_BATCH)


WATCH_DAG_ID = "call_details_watch"

_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.5
_LATENCY_MS = 200


def run_ingest(stack: Stack, tell: Tell) -> Report:
    """Drop all samples while the API refuses a batch of one, then let it take that batch from a replay."""
    dropped = drop_samples(stack.aws("s3"), stack.ingest_bucket)
    batches = sum(len(each.batches) for each in dropped)
    started = time.monotonic()
    with AirflowApi(stack) as airflow, httpx.Client(base_url=stack.partners_url, timeout=30) as partners:

        def poll() -> None:
            tell(int(ask(partners, RECEIVED_PATH)["batches"]), batches)

        refusal = {"path": BATCH_PATH, "contains": REFUSED_TEXT, "status": httpx.codes.UNPROCESSABLE_ENTITY}
        with rules(partners, refusal, latency_ms=_LATENCY_MS):
            for dag_id in (INGEST_DAG_ID, WATCH_DAG_ID):
                airflow.unpause(dag_id)
            wait_for_runs(airflow, [run_id(each.file) for each in dropped], on_poll=poll)
        for dag_id in (WATCH_DAG_ID, INGEST_DAG_ID):
            airflow.unpause(dag_id, paused=True)
        found = find(stack, airflow, partners)
        replayed = _replay(stack, airflow, partners, poll)
        end_watch(airflow)
        seconds = time.monotonic() - started
        most_calls = ask(partners, "/journal", limit=0)["max_concurrent"].get(BATCH_PATH, 0)
        active = [run for dag_id in (WATCH_DAG_ID, INGEST_DAG_ID) for run in active_runs(airflow, dag_id)]
    return report_on(dropped, found, replayed, seconds=seconds, most_calls=most_calls, active=active)


def wait_for_runs(
    airflow: AirflowApi, run_ids: list[str], *, on_poll: Callable[[], None], poll: float = _POLL_SECONDS
) -> None:
    """Wait until all these runs of the ingest were started by the watcher and have ended.

    Raises:
        StackError: they have not within five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while missing := set(run_ids) - {run["dag_run_id"] for run in airflow.runs(INGEST_DAG_ID) if has_ended(run)}:
        if time.monotonic() > deadline:
            raise StackError(
                f"of {INGEST_DAG_ID}, these runs did not end within {_TIMEOUT_SECONDS:.0f} s: "
                f"{', '.join(sorted(missing))}"
            )
        on_poll()
        time.sleep(poll)
    on_poll()


def end_watch(airflow: AirflowApi) -> None:
    """End the round of the watcher that waits for the next file; it has been paused, so that no other follows.

    A DAG that is paused leaves its runs as they are: the round would wait until the DAG is switched on again.
    """
    for waiting in active_runs(airflow, WATCH_DAG_ID):
        airflow.end(WATCH_DAG_ID, waiting)


def _replay(stack: Stack, airflow: AirflowApi, partners: httpx.Client, poll: Callable[[], None]) -> Replayed:
    """Replay the queue, as somebody does once the API takes again what it refused."""
    airflow.unpause(REPLAY_DAG_ID)
    run = airflow.wait(
        REPLAY_DAG_ID,
        airflow.trigger(REPLAY_DAG_ID),
        timeout=_TIMEOUT_SECONDS,
        on_poll=poll,
        poll=_POLL_SECONDS,
    )
    airflow.unpause(REPLAY_DAG_ID, paused=True)
    return find_replayed(stack, airflow, partners, run)
