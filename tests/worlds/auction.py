"""The auction's surroundings: both Lambdas and S3."""

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.worlds.call_details import FakeTime
from tests.worlds.functions import FakeLambda, RaisedError
from tests.worlds.pipeline import PipelineWorld
from tests.worlds.s3 import FakeS3

A = "auction-results"
B = "auction-order"
BUCKET = "order-results"


@dataclass
class AuctionWorld(PipelineWorld):
    """What surrounds the auction's tasks: both Lambdas and S3.

    ``answers`` are what Lambda A says, in their order, the last one for ever: an answer, or an error to raise.
    """

    SETTINGS = {"order_results_bucket": BUCKET}  # noqa: RUF012 - declared by the base class

    answers: deque[Any] = field(default_factory=deque)
    functions: FakeLambda = field(default_factory=FakeLambda)
    s3: FakeS3 = field(default_factory=lambda: FakeS3(BUCKET))
    time: FakeTime = field(default_factory=lambda: FakeTime(time.time()))

    def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        self.functions.functions |= {A: self._results, B: self._order}
        parts = {"now": self.time, "pause": self.time.sleep, "sleep": self.time.pass_by}
        return {"s3": self.s3, "lambda": self.functions}, parts

    def give(self, *statuses: str) -> None:
        """Let Lambda A have results: one order for each status."""
        self.answer([results(statuses)])

    def answer(self, answers: Sequence[Any]) -> None:
        """Let Lambda A say these, one after the other, the last one for ever."""
        self.answers = deque(answers)

    def orders(self) -> list[str]:
        return self.s3.keys("orders/")

    def document(self, prefix: str) -> Any:
        """The one JSON document whose key begins with ``prefix``."""
        (key,) = self.s3.keys(prefix)
        return json.loads(self.s3.bodies(key)[-1] or b"")

    def _results(self, payload: Any) -> Any:
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        """As Lambda B behaves (spec: auction)."""
        order_id, status = order["order_id"], order.get("status", order.get("order"))
        if status == "rejected":
            raise RaisedError("OrderRejectedError", f"OrderRejectedError: order {order_id} was rejected")
        if status != "accepted":
            raise RaisedError("InvalidOrderError", f"InvalidOrderError: order {order_id} has no known status")
        key = f"orders/{order['order_date'].replace('-', '/')}/order_{order_id}.json"
        if not self.s3.bodies(key):
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(order).encode())
        return {"order_id": order_id, "key": key}


def results(statuses: Sequence[str]) -> dict[str, Any]:
    """Lambda A's answer: one order for each status."""
    return {"results": True, "orders": [{"status": status, "power": n} for n, status in enumerate(statuses)]}
