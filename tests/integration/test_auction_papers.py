"""A run's files and its stored orders on the emulator's S3, with the real Lambda B."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.auction.deadlines import RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.keys import orders_key
from include.auction.models import OrderOutcome, Orders, Result, slice_of
from include.auction.run import AuctionRun
from include.clients.lambda_function import FunctionClient
from tests.worlds.functions import AdHocFunction

if TYPE_CHECKING:
    from tests.integration.conftest import Aws

DAY = date(2026, 3, 8)
RUNS = itertools.count(1)

DIES_AFTER_THE_WRITE = """
import os
import boto3

def handler(order, context):
    first = note(order) == 0
    answer = boto3.client("lambda").invoke(FunctionName=PART["real"], Payload=json.dumps(order))
    result = json.loads(answer["Payload"].read())
    if first:
        os._exit(1)
    return result
"""


class Night:
    """One run in the bucket that the template made."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self.aws = aws
        self.bucket = bucket
        self.run_id = f"manual__2026-03-08T06:00:00+00:00-{next(RUNS)}"
        self.uri = f"s3://{bucket}/{orders_key(DAY, self.run_id)}"

    def save(self, *orders: Any) -> Orders:
        return Orders(self.run_id, DAY, orders).save(self.aws.s3, self.uri)

    def process(self, function_name: str, *, clear_number: int = 0) -> list[OrderOutcome]:
        run = AuctionRun.load(self.uri, self.aws.s3)
        function = OrderFunction(FunctionClient(self.aws.functions), function_name, tuple)
        piece = slice_of(0, len(run.orders.items))
        return run.process_slice(
            piece,
            function,
            deadlines=RunDeadlines.of(None),
            concurrency=3,
            clear_number=clear_number,
        )

    def versions(self, key: str) -> int:
        return len(self.aws.s3.list_object_versions(Bucket=self.bucket, Prefix=key).get("Versions", []))


@pytest.fixture
def night(aws: Aws, order_results_bucket: str) -> Night:
    return Night(aws, order_results_bucket)


def test_of_many_writers_one_saves_the_orders_and_all_see_the_same(night: Night) -> None:
    start = threading.Barrier(8, timeout=10)

    def save(number: int) -> Orders:
        start.wait()
        return night.save({"writer": number})

    with ThreadPoolExecutor(8) as pool:
        saved = list(pool.map(save, range(8)))
    assert len({json.dumps(orders.items) for orders in saved}) == 1
    assert night.versions(orders_key(DAY, night.run_id)) == 1


def test_orders_end_as_they_should_and_are_stored_once(night: Night, outputs: Mapping[str, str]) -> None:
    orders = night.save(
        {"status": "accepted", "power": 2.1}, {"status": "rejected"}, {"status": "odd"}, {"order": "accepted"}
    )
    name = outputs["AuctionOrderFunctionName"]
    outcomes = night.process(name)
    assert [outcome.result.value for outcome in outcomes] == ["accepted", "rejected", "errored", "accepted"]
    assert not any(outcome.retryable for outcome in outcomes)
    assert night.process(name) == outcomes
    assert night.process(name, clear_number=1) == outcomes
    for outcome in outcomes:
        assert night.versions(f"orders/2026/03/08/order_{outcome.order_id}") == (outcome.result is Result.ACCEPTED)
    stored = json.loads(night.aws.s3.get_object(Bucket=night.bucket, Key=outcomes[0].key or "")["Body"].read())
    assert stored == orders.payload(0)


def test_function_killed_after_its_write_stores_no_second_object(
    night: Night, outputs: Mapping[str, str], tmp_path: Path
) -> None:
    night.save({"status": "accepted"})
    dying = AdHocFunction(
        night.aws.functions, tmp_path, DIES_AFTER_THE_WRITE, timeout=30, real=outputs["AuctionOrderFunctionName"]
    )
    (first,) = night.process(dying.name)
    assert (first.result, first.retryable) == (Result.ERRORED, True)
    key = f"orders/2026/03/08/order_{first.order_id}.json"
    assert night.versions(key) == 1, "it was written all the same"
    (second,) = night.process(dying.name)
    assert (second.result, second.key) == (Result.ACCEPTED, key)
    assert len(dying.calls()) == 2
    assert night.versions(key) == 1


def test_summary_and_delivery_record_are_read_as_they_were_saved(night: Night, outputs: Mapping[str, str]) -> None:
    night.save({"status": "accepted"}, {"status": "rejected"})
    night.process(outputs["AuctionOrderFunctionName"])
    run = AuctionRun.load(night.uri, night.aws.s3)
    summary = run.account(
        [slice_of(0, 2)], clear_number=0, planned_at=0, succeeded=[], why_no_outcome=lambda index: None
    )
    key = summary.save(night.aws.s3, night.bucket)
    kept = json.loads(night.aws.s3.get_object(Bucket=night.bucket, Key=key)["Body"].read())
    assert (kept["run_id"], kept["total"], kept["accepted"], kept["rejected"]) == (night.run_id, 2, 1, 1)
    record = run.delivery_record()
    record.add("one", "sns")
    record.save()
    again = run.delivery_record()
    assert (again.channels_of("one"), again.channels_of("two")) == (["sns"], [])
