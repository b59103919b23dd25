"""All that surrounds the auction's tasks: settings, connections, both Lambdas, S3, alerts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.worlds.alerts import TOPIC, Wire
from tests.worlds.functions import FakeLambda, RaisedError
from tests.worlds.s3 import FakeS3

A = "auction-results"
B = "auction-order"
BUCKET = "order-results"


@dataclass
class AuctionWorld:
    """Set it up by changing its parts before a task runs; look at them afterwards.

    ``answers`` are what Lambda A says, in their order, the last one for ever: an answer, or an error to raise.
    """

    answers: deque[Any] = field(default_factory=deque)
    functions: FakeLambda = field(default_factory=FakeLambda)
    s3: FakeS3 = field(default_factory=lambda: FakeS3(BUCKET))
    wire: Wire = field(default_factory=Wire)
    metrics: list[dict[str, float]] = field(default_factory=list)
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "environment": "local",
            "archive_bucket": "archive",
            "order_results_bucket": BUCKET,
            "alerts_topic_arn": TOPIC,
        }
    )

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the outside for the rest of the test."""
        self._monkeypatch = monkeypatch
        self.wire.attach(monkeypatch)
        self.change_settings()
        self.functions.functions |= {A: self._results, B: self._order}
        for module in ("tasks.energy_auction", "triggers.lambda_result"):
            monkeypatch.setattr(f"airflow_ext.{module}.s3_client", lambda **options: self.s3)
            monkeypatch.setattr(f"airflow_ext.{module}.lambda_client", lambda **options: self.functions)
        monkeypatch.setattr("airflow_ext.metrics.publish_metrics", self._publish)
        # Nobody has time for the real pauses, between looks and between attempts to tell.
        monkeypatch.setattr("include.auction.results.FIRST_PAUSE_SECONDS", 0.01)
        monkeypatch.setattr("include.auction.alerts.PAUSE_SECONDS", 0.01)

    def change_settings(self, **changes: Any) -> None:
        """Put the settings, with changes, where Airflow finds them."""
        self.settings |= changes
        self._monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(self.settings))

    def give(self, *statuses: str) -> None:
        """Let Lambda A have results: one order for each status."""
        self.answer([results(statuses)])

    def answer(self, answers: Sequence[Any]) -> None:
        """Let Lambda A say these, one after the other, the last one for ever."""
        self.answers = deque(answers)

    def orders(self) -> list[str]:
        """Keys of the stored orders."""
        return self.s3.keys("orders/")

    def paper(self, prefix: str) -> Any:
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

    def _publish(self, values: dict[str, float], *, environment: str, pipeline: str) -> None:
        assert (environment, pipeline) == ("local", "energy_auction")
        self.metrics.append(values)


def results(statuses: Sequence[str]) -> dict[str, Any]:
    """Lambda A's answer: one order for each status."""
    return {"results": True, "orders": [{"status": status, "power": n} for n, status in enumerate(statuses)]}
