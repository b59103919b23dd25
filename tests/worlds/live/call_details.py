"""The ingest bucket and the API's batches, and their names, as the specification gives them."""

import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import accumulate, batched
from typing import Any

from local.stack.description import Stack
from tests.worlds.call_details_reference import reference_records
from tests.worlds.live.bucket import Bucket
from tests.worlds.live.partners import Call, Partners, begun
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.waiting import wait_until

DAG_ID, WATCH_DAG_ID, REPLAY_DAG_ID = "call_details_ingest", "call_details_watch", "call_details_replay"
PLAN_TASK, POST_TASK, CLOSE_TASK = "plan", "post_chunk", "reconcile"
LOGIN, BATCHES = "/call-details/login", "/call-details/batches"

Rule = dict[str, Any]


def lines(number: int, *, text: str = "") -> bytes:
    """A file of so many records, all different, every other of which is no JSON."""
    return b"".join(
        json.dumps({"call": call, "note": text}).encode() + b"\n" if call % 2 else f"call {call}; {text}\r\n".encode()
        for call in range(number)
    )


@dataclass(frozen=True)
class File:
    """A file version as it was dropped.

    Args:
        size: records of a batch, as the settings have it when the file is claimed.
        told: its records, where the test itself tells them.
    """

    bucket: str
    key: str
    etag: str
    content: bytes = field(repr=False)
    size: int
    told: Sequence[str] | None = field(default=None, repr=False)

    def batch_key(self, batch: int) -> str:
        return hashlib.sha256(json.dumps([self.bucket, self.key, self.etag, batch]).encode()).hexdigest()

    @cached_property
    def records(self) -> Sequence[str]:
        """What the record rules make of it."""
        if self.told is not None:
            return self.told
        compressed = self.key.lower().endswith(".gz")
        return reference_records(gzip.decompress(self.content) if compressed else self.content)

    @cached_property
    def batches(self) -> list[tuple[str, ...]]:
        return list(batched(self.records, self.size))

    @cached_property
    def batch_keys(self) -> list[str]:
        return [self.batch_key(batch) for batch in range(len(self.batches))]

    @cached_property
    def digests(self) -> list[str]:
        """Of each batch, as the API tells it."""
        return [hashlib.sha256(",".join(records).encode()).hexdigest() for records in self.batches]

    def rule(self, *batches: int, **fault: Any) -> Rule:
        """A fault for some batches, or for all."""
        keys = [self.batch_key(batch) for batch in batches] or self.batch_keys
        return {"path": BATCHES, "match": {"idempotencyKey": keys}, **fault}


class Ingest(Bucket):
    """Drops files, and reads what became of them."""

    def __init__(self, stack: Stack, partners: Partners, pipeline: Pipeline) -> None:
        super().__init__(stack, stack.ingest_bucket)
        self.pipeline = pipeline
        self._partners = partners
        self._sqs, self._queue = stack.aws("sqs"), stack.call_details_dlq_url
        self._dynamodb, self._ledger = stack.aws("dynamodb"), stack.ingest_ledger_table

    def drop(self, name: str, content: bytes, *, size: int = 500, told: Sequence[str] | None = None) -> File:
        """Drop a file under ``incoming/``; see :class:`File`."""
        key = f"incoming/{name}"
        answer = self.s3.put_object(Bucket=self.name, Key=key, Body=content)
        return File(self.name, key, answer["ETag"].strip('"'), content, size, told)

    def keys(self, prefix: str) -> list[str]:
        """What lies below ``prefix`` now."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def start(self, file: File, **params: Any) -> str:
        return self.pipeline.start(key=file.key, **params)

    def run_of(self, file: File) -> str:
        """The one run that the watcher starts for a version."""
        (found,) = wait_until(lambda: self.runs_of(file), what=f"a run for {file.key}")
        return found

    def runs_of(self, file: File) -> list[str]:
        """The runs that the watcher has started for a version."""
        version = {"key": file.key, "etag": file.etag}
        runs = self.pipeline.airflow.runs(DAG_ID)
        return [run["dag_run_id"] for run in runs if version.items() <= run["conf"].items()]

    def receipt(self, file: File) -> dict[str, Any]:
        return json.loads(self.get(f"receipts/{file.key}.{file.etag}.json")["Body"])

    def assert_processed(self, file: File, *, dead: Sequence[int] = ()) -> dict[str, Any]:
        """The file is where processed files go; its receipt, which is returned, has all of it. ``dead`` are batches."""
        receipt = self.receipt(file)
        dead_records = sum(len(file.batches[batch]) for batch in dead)
        expected: dict[str, Any] = {
            "key": file.key,
            "etag": file.etag,
            "outcome": "processed with dead letters" if dead else "processed",
            "error": None,
            "bytes": len(file.content),
            "records_read": len(file.records),
            "records_accepted": len(file.records) - dead_records,
            "records_dead_lettered": dead_records,
            "batches_read": len(file.batches),
            "batches_accepted": len(file.batches) - len(dead),
            "batches_dead_lettered": len(dead),
            "problems": [],
        }
        assert {name: receipt[name] for name in expected} == expected
        for count in [name for name in expected if name.startswith(("records", "batches"))]:
            assert sum(each[count] for each in receipt["ranges"]) == expected[count]
        place = rf"processed/\d{{4}}/\d\d/\d\d/{file.etag}/{re.escape(file.key.removeprefix('incoming/'))}"
        assert re.fullmatch(place, receipt["stored_as"])
        assert self.get(receipt["stored_as"])["Body"] == file.content
        return receipt

    def dead_letters(self) -> list[dict[str, Any]]:
        """The messages of the queue, which stay there."""
        seen: dict[str, dict[str, Any]] = {}
        while messages := self._receive():
            seen |= {message["ReceiptHandle"]: json.loads(message["Body"]) for message in messages}
        for receipt in seen:
            self._sqs.change_message_visibility(QueueUrl=self._queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        return list(seen.values())

    def forget_dead_letters(self) -> None:
        while messages := self._receive():
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def forget_permits(self) -> None:
        """Free the permits of tasks that were killed, for whose leases the next test would have to wait."""
        asked = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "permits"}}}
        for item in self._dynamodb.query(TableName=self._ledger, **asked)["Items"]:
            self._dynamodb.delete_item(TableName=self._ledger, Key={name: item[name] for name in ("pk", "sk")})

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, VisibilityTimeout=60)
        return answer.get("Messages", [])

    def taken(self, *files: File) -> list[int]:
        """How often the API took each batch of these versions; it was the right one each time."""
        received = self._partners.received()
        assert received["conflicting"] == 0
        times = []
        for file in files:
            for key, records, digest in zip(file.batch_keys, file.batches, file.digests, strict=True):
                batch = received["by_key"].get(key)
                if batch:
                    assert (batch["records"], batch["sha256"]) == (len(records), digest)
                times.append(batch["times"] if batch else 0)
        return times


def most_at_once(calls: Sequence[Call]) -> int:
    """How many of these calls were under way at once, at the least: the journal tells times in milliseconds."""
    begins = [(begun(call) + timedelta(milliseconds=1), 1) for call in calls]
    ends = [(begun(call) + timedelta(milliseconds=call["duration_ms"]), -1) for call in calls]
    # Of one instant, ends come first.
    return max(accumulate(change for _, change in sorted(begins + ends)))
