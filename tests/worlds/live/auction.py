"""The order results bucket, and the auction's names, as the specification gives them."""

import hashlib
import json
from collections import Counter
from typing import Any

from local.stack.description import Stack
from tests.worlds.live.bucket import Bucket
from tests.worlds.live.pipeline import Pipeline

DAG_ID = "energy_auction"
WAIT_TASK, ORDER_TASK, SUMMARY_TASK = "wait_for_results", "process_order", "summarize"

PAYLOAD = "payload-5be2d90c"
"""Part of every order: whoever finds it in a log, an alert or Airflow's database has found a payload."""

Order = dict[str, Any]


def orders(number: int, *, status: str = "accepted") -> list[Order]:
    """Orders that differ in their ``power``."""
    return [{"status": status, "power": power, "note": PAYLOAD} for power in range(number)]


def ready(found: list[Order]) -> dict[str, Any]:
    """What Lambda A answers when there are results."""
    return {"results": True, "orders": found}


NOT_YET = {"results": False}
"""What it answers until then."""


def order_id(run_id: str, index: int) -> str:
    return hashlib.sha256(f"{run_id}/{index}".encode()).hexdigest()


class Results(Bucket):
    def __init__(self, stack: Stack, pipeline: Pipeline) -> None:
        super().__init__(stack, stack.order_results_bucket)
        self._pipeline = pipeline
        self._days: dict[str, str] = {}

    def versions(self) -> Counter[str]:
        """How often each order was ever stored, by its key."""
        return Counter(version.key for version in self.listing("orders/"))

    def stored(self, run_id: str, number: int) -> dict[int, int]:
        """How often each of a run's orders was ever stored, by index; those that were not are left out."""
        versions, day = self.versions(), self._day(run_id)
        found = {index: versions[f"orders/{day}/order_{order_id(run_id, index)}.json"] for index in range(number)}
        return {index: count for index, count in found.items() if count}

    def order(self, run_id: str, index: int) -> Order:
        return json.loads(self.get(self.key(run_id, index))["Body"])

    def key(self, run_id: str, index: int) -> str:
        """Where the specification wants an accepted order."""
        return f"orders/{self._day(run_id)}/order_{order_id(run_id, index)}.json"

    def summary(self, run_id: str) -> dict[str, Any]:
        return json.loads(self.get(f"summaries/{self._day(run_id)}/{run_id}.json")["Body"])

    def day(self, run_id: str) -> str:
        """The UTC day that a run is for, as the operations page writes it."""
        return self._day(run_id).replace("/", "-")

    def _day(self, run_id: str) -> str:
        if run_id not in self._days:
            run = self._pipeline.airflow.run(DAG_ID, run_id)
            self._days[run_id] = str(run["logical_date"] or run["run_after"])[:10].replace("-", "/")
        return self._days[run_id]
