"""What becomes of orders: each ends in its own way, is stored once at most, and is told of once at most."""

import json
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from local.stack.description import Stack
from tests.worlds.functions import AdHocFunction
from tests.worlds.live.auction import DAG_ID, ORDER_TASK, PAYLOAD, SUMMARY_TASK, Results, order_id, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.pipeline import Ended, Pipeline
from tests.worlds.live.waiting import wait_until

SOUND, REJECTED, OLDER, UNKNOWN, MISSING, KILLED, PASSING, LASTING, OLDER_REJECTED = range(9)
ATTEMPTS = 4
"""Of a task whose errors do not pass."""

ORDERS: dict[int, dict[str, Any]] = {
    SOUND: {"status": "accepted", "power": 2.5},
    REJECTED: {"status": "rejected"},
    OLDER: {"order": "accepted"},
    UNKNOWN: {"status": "postponed"},
    MISSING: {"power": 4},
    KILLED: {"status": "accepted", "trouble": "killed after the write"},
    PASSING: {"status": "accepted", "trouble": "before the write"},
    # Mended by the time that somebody clears the run.
    LASTING: {"status": "accepted", "trouble": "before the write", "times": ATTEMPTS},
    OLDER_REJECTED: {"order": "rejected"},
}

TOLD = {
    REJECTED: "was rejected",
    UNKNOWN: "has an unknown status",
    MISSING: "has no status",
    LASTING: "the exchange is out of reach",
    OLDER_REJECTED: "was rejected",
}
"""By order: what people are to read."""


@pytest.fixture(scope="module")
def lambdas(functions: Functions) -> dict[str, AdHocFunction]:
    """Lambda A that offers the orders, and a Lambda B that gets into trouble with some."""
    offered = [{**ORDERS[index], "note": PAYLOAD} for index in sorted(ORDERS)]
    return {"function_a": functions.auction({"answer": ready(offered)}), "function_b": functions.exchange()}


@pytest.fixture(scope="module")
def run(auction: Pipeline, lambdas: dict[str, AdHocFunction]) -> Ended:
    """The run, as it ended the first time."""
    return auction.run(**{param: function.name for param, function in lambdas.items()})


def test_the_schedules_own_run_works_on_the_shipped_functions(
    auction: Pipeline, results: Results, inbox: Inbox
) -> None:
    (scheduled,) = (run for run in auction.airflow.runs(DAG_ID) if run["run_type"] == "scheduled")
    ended = auction.ended(scheduled["dag_run_id"])
    assert ended.state == "success"
    summary = auction.summary(ended.id)
    assert summary["total"] == len(ended.mapped) >= 1
    assert results.summary(ended.id).items() <= summary.items()
    assert (summary["accepted"] + summary["rejected"], summary["errored"]) == (summary["total"], 0)
    assert results.stored(ended.id, summary["total"]) == dict.fromkeys(accepted(summary, ended.id), 1)
    sns, slack = inbox.about(ended.id, failed=False)
    assert len(sns) == len(slack) == summary["rejected"]


def test_each_order_ends_in_its_own_way(
    auction: Pipeline, results: Results, run: Ended, lambdas: dict[str, AdHocFunction]
) -> None:
    assert run.state == "failed"
    ended = {name: (task["state"], task["try_number"]) for name, task in run.mapped.items()}
    assert ended == {
        f"order {SOUND}": ("success", 1),
        f"order {REJECTED}": ("failed", 1),
        f"order {OLDER}": ("success", 1),
        f"order {UNKNOWN}": ("failed", 1),
        f"order {MISSING}": ("failed", 1),
        f"order {KILLED}": ("success", 2),
        f"order {PASSING}": ("success", 2),
        f"order {LASTING}": ("failed", ATTEMPTS),
        f"order {OLDER_REJECTED}": ("failed", 1),
    }
    called = Counter(call["event"]["order_id"] for call in lambdas["function_b"].calls())
    attempts = {index: ended[f"order {index}"][1] for index in ORDERS}
    assert called == {order_id(run.id, index): number for index, number in attempts.items()}
    assert results.stored(run.id, len(ORDERS)) == dict.fromkeys([SOUND, OLDER, KILLED, PASSING], 1)
    kept = results.order(run.id, SOUND)
    assert kept.items() >= {**ORDERS[SOUND], "note": PAYLOAD, "order_id": order_id(run.id, SOUND)}.items()

    summary = results.summary(run.id)
    assert {name: summary[name] for name in ("run_id", "total", "accepted", "rejected", "errored")} == {
        "run_id": run.id,
        "total": 9,
        "accepted": 4,
        "rejected": 2,
        "errored": 3,
    }
    assert sorted(summary["keys"]) == sorted(results.key(run.id, index) for index in (SOUND, OLDER, KILLED, PASSING))
    assert auction.summary(run.id).items() >= summary.items()
    assert "WorkFailedError" in auction.log(run.id, SUMMARY_TASK)


def test_people_hear_once_of_each_order_that_was_not_accepted(
    stack: Stack, auction: Pipeline, inbox: Inbox, run: Ended
) -> None:
    sns, slack = inbox.about(run.id)
    texts = [json.loads(message)["text"].replace("&lt;", "<").replace("&gt;", ">") for message in slack]
    assert sorted(texts) == sorted(sns)
    assert len(sns) == len(TOLD)
    for index, reason in TOLD.items():
        (alert,) = (text for text in sns if order_id(run.id, index) in text)
        task = run.mapped[f"order {index}"]
        path = f"/dags/{DAG_ID}/runs/{quote(run.id)}/tasks/{ORDER_TASK}/mapped/{task['map_index']}"
        for part in (f"pipeline {DAG_ID}", f"run: {run.id}", f"order {index}", reason, f"{stack.airflow_url}{path}"):
            assert part in alert
        assert httpx.get(f"{stack.airflow_url}{path}").status_code == 200
        # What the link leads to says the same.
        log = auction.log(run.id, ORDER_TASK, attempt=task["try_number"], map_index=task["map_index"])
        assert reason in log


def test_a_run_that_is_cleared_works_on_the_same_orders_stores_nothing_twice_and_alerts_nobody_again(
    auction: Pipeline, results: Results, inbox: Inbox, run: Ended, lambdas: dict[str, AdHocFunction]
) -> None:
    before = {version.key: version.id for version in results.listing("orders/")}
    told = inbox.about(run.id)
    auction.clear(run.id)
    wait_until(
        lambda: auction.airflow.run(DAG_ID, run.id)["state"] in ("queued", "running"), what="the cleared run to start"
    )
    again = auction.ended(run.id)

    # Two orders are still no orders, but the one that was in trouble has come through.
    assert again.state == "failed"
    assert again.mapped[f"order {LASTING}"]["state"] == "success"
    assert len(lambdas["function_a"].calls()) == 1
    assert results.stored(run.id, len(ORDERS)) == dict.fromkeys([SOUND, OLDER, KILLED, PASSING, LASTING], 1)
    assert before.items() <= {version.key: version.id for version in results.listing("orders/")}.items()
    assert results.summary(run.id).items() >= {"accepted": 5, "rejected": 2, "errored": 2}.items()
    assert inbox.about(run.id) == told


def accepted(summary: dict[str, Any], run_id: str) -> list[int]:
    return [
        index for index in range(summary["total"]) if any(order_id(run_id, index) in key for key in summary["keys"])
    ]
