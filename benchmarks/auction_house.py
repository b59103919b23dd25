"""What both sides of the auction benchmark share: Lambda A on demand, the shipped Lambda B, and the clock."""

from __future__ import annotations

import io
import itertools
import json
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import BenchmarkError
from local.stack.description import Stack

RESULTS_FUNCTION = "benchmark-results"

_SOURCE = Path(__file__).parent / "functions" / "results_at_second_call.py"
_BUCKET = "benchmark-auction"
_CHANGE_SECONDS = 30.0


@dataclass(frozen=True)
class Timing:
    """One auction.

    Args:
        orders: how many Lambda A had.
        from_ready: seconds from the moment there were results to the last order stored.
        from_answer: seconds from Lambda A's answer that has them, so without the wait between two polls.
    """

    orders: int
    from_ready: float
    from_answer: float


class AuctionHouse:
    """The functions of the benchmark's auctions, and what S3 says about when they did what.

    Use as ``house.open(...)``, run the auction one way or the other, ``house.close()``. One auction at a time.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._s3, self._lambda = stack.aws("s3"), stack.aws("lambda")
        self._memory = itertools.cycle((257, 256))
        self._numbers = itertools.count(1)
        self._s3.create_bucket(Bucket=_BUCKET)
        self._create()

    def open(self, orders: int, *, rejected: int = 0, warm: bool = False) -> None:
        """Prepare an auction; there are results from the moment of the first call of Lambda A.

        Args:
            orders: how many its results hold.
            rejected: how many of them are rejected, spread evenly.
            warm: leave Lambda B's processes as the last auction left them. Otherwise there is one, as the emulator
                keeps it after five quiet minutes: the state in which a scheduled auction finds it.
        """
        if not warm:
            self._empty_pool()
        self._name = f"auction-{next(self._numbers)}"
        self._opened = datetime.now(UTC)
        self._expected = (orders, orders - rejected)
        found = [
            {"status": "rejected" if index * rejected // orders < (index + 1) * rejected // orders else "accepted"}
            for index in range(orders)
        ]
        self._put("auction.json", {"name": self._name, "orders": [{**order, "power": 1} for order in found]})

    def close(self) -> Timing:
        """What the auction that was opened took.

        Raises:
            BenchmarkError: not every accepted order was stored, or Lambda A was not called twice.
        """
        orders, accepted = self._expected
        calls = self._times(_BUCKET, f"calls/{self._name}/")
        day = self._opened.date().isoformat().replace("-", "/")
        stored = [at for at in self._times(self.stack.order_results_bucket, f"orders/{day}/") if at > self._opened]
        if len(calls) != 2 or len(stored) != accepted:
            raise BenchmarkError(
                f"{len(stored)} of {accepted} orders were stored, after {len(calls)} calls of Lambda A"
            )
        ready, answered = calls
        return Timing(orders, (max(stored) - ready).total_seconds(), (max(stored) - answered).total_seconds())

    def _times(self, bucket: str, prefix: str) -> list[datetime]:
        """When each object was written, in order; the emulator tells milliseconds."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["LastModified"] for page in pages for item in page.get("Contents", []))

    def _put(self, key: str, document: Any) -> None:
        self._s3.put_object(Bucket=_BUCKET, Key=key, Body=json.dumps(document).encode())

    def _create(self) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("function.py", _SOURCE.read_text())
        self._lambda.create_function(
            FunctionName=RESULTS_FUNCTION,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/benchmark",
            Handler="function.handler",
            Code={"ZipFile": content.getvalue()},
            Timeout=30,
            Environment={"Variables": {"BUCKET": _BUCKET}},
        )

    def _empty_pool(self) -> None:
        """Let the emulator end Lambda B's processes, which it does when the function's memory changes; start one."""
        name = self.stack.auction_order_function
        self._lambda.update_function_configuration(FunctionName=name, MemorySize=next(self._memory))
        deadline = time.monotonic() + _CHANGE_SECONDS
        while self._lambda.get_function_configuration(FunctionName=name)["LastUpdateStatus"] != "Successful":
            if time.monotonic() > deadline:
                raise BenchmarkError(f"function {name} is still being changed after {_CHANGE_SECONDS:.0f} s")
            time.sleep(0.1)
        answer = self._lambda.invoke(FunctionName=name, Payload=b'{"status": "accepted"}')
        if "FunctionError" in answer:
            raise BenchmarkError(f"function {name} failed: {answer['Payload'].read()[:300]!r}")
