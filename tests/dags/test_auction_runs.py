"""Whole runs of ``energy_auction`` through Airflow's own task runner, against a world of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from include.auction.keys import order_id
from tests.dags.runs import kept_by_airflow, run_dag, states
from tests.worlds.auction import A, AuctionWorld, B, results
from tests.worlds.functions import RaisedError, lambda_error
from tests.worlds.pipeline import PLANTED, leaks

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

pytestmark = pytest.mark.usefixtures("airflow_database")

NOT_YET = {"results": False}


@pytest.fixture
def world() -> Iterator[AuctionWorld]:
    """Both Lambdas, an empty bucket."""
    with AuctionWorld().attached() as world:
        yield world


def run(conf: dict[str, Any] | None = None) -> DagRun:
    """Without a logical date: ``dag.test()`` would take it for the run's start, which the wait is counted from."""
    return run_dag("energy_auction", conf)


def test_every_order_has_a_task_an_outcome_and_a_name(world: AuctionWorld) -> None:
    world.give("accepted", "rejected", "accepted")
    dag_run = run()
    assert dag_run.state == "success", "a rejected order fails its task and not the run"
    assert states(dag_run) == {
        ("wait_for_results", -1): "success",
        ("process_order", 0): "success",
        ("process_order", 1): "failed",
        ("process_order", 2): "success",
        ("summarize", -1): "success",
    }
    names = {ti.map_index: ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0}
    assert names == {index: f"order {index} ({order_id(dag_run.run_id, index)[:12]})" for index in range(3)}
    accepted = [order_id(dag_run.run_id, index) for index in (0, 2)]
    day = f"{dag_run.run_after:%Y/%m/%d}"
    assert world.orders() == sorted(f"orders/{day}/order_{number}.json" for number in accepted)
    assert len(world.functions.asked(B)) == 3, "a rejected order is not worth a retry"
    (message,), (post,) = world.wire.sns, world.wire.slack
    assert order_id(dag_run.run_id, 1) in message["Message"]
    assert "/tasks/process_order/mapped/1" in post["text"]


def test_results_are_waited_for_in_the_triggerer(world: AuctionWorld) -> None:
    world.answer([NOT_YET, NOT_YET, results(["accepted"])])
    dag_run = run()
    assert dag_run.state == "success"
    assert len(world.functions.asked(A)) == 3
    assert len(world.orders()) == 1


def test_run_without_results_is_skipped_and_says_so(world: AuctionWorld) -> None:
    world.change_settings(auction_results_timeout=1)
    world.answer([NOT_YET])
    dag_run = run()
    assert dag_run.state == "success"
    assert set(states(dag_run).values()) == {"skipped"}
    assert "no results within 1 s" in world.paper("summaries/")["reason"]
    assert (world.wire.sns, world.wire.slack) == ([], [])


def test_no_orders_is_a_success(world: AuctionWorld) -> None:
    world.give()
    dag_run = run()
    assert dag_run.state == "success"
    assert states(dag_run)["summarize", -1] == "success"
    assert world.paper("summaries/")["total"] == 0


def test_malformed_answer_fails_at_once_and_is_told_once(world: AuctionWorld) -> None:
    world.answer([{"orders": []}])
    dag_run = run()
    assert dag_run.state == "failed"
    assert states(dag_run)["wait_for_results", -1] == "failed"
    assert len(world.functions.asked(A)) == 1
    (message,) = world.wire.sns
    assert "the answer has no field 'results'" in message["Message"]


def test_malformed_answer_while_waiting_fails_as_well(world: AuctionWorld) -> None:
    world.answer([NOT_YET, {"results": True, "orders": {}}])
    assert run().state == "failed"
    assert len(world.functions.asked(A)) == 2
    assert "'orders' in the answer is not a list but dict" in world.wire.sns[0]["Message"]


def test_failing_function_a_is_asked_again(world: AuctionWorld) -> None:
    world.answer([lambda_error("TooManyRequestsException"), RaisedError("KeyError", "x"), results(["accepted"])])
    assert run().state == "success"
    assert len(world.functions.asked(A)) == 3


def test_infrastructure_error_is_retried_for_the_orders_it_hit(world: AuctionWorld) -> None:
    world.change_settings(max_mapped_orders=1)
    world.give("accepted", "accepted", "rejected")
    throttles = iter([lambda_error("TooManyRequestsException"), lambda_error("ServiceException")])
    real = world.functions.functions[B]

    def order(payload: dict[str, Any]) -> Any:
        if payload["power"] == 1 and (error := next(throttles, None)):
            raise error
        return real(payload)

    world.functions.functions[B] = order
    dag_run = run()
    assert dag_run.state == "success"
    assert states(dag_run)["process_order", 0] == "failed", "of its rejected order"
    assert sorted(payload["power"] for payload in world.functions.asked(B)) == [0, 1, 1, 1, 2]
    summary = world.paper("summaries/")
    assert (summary["accepted"], summary["rejected"], summary["errored"]) == (2, 1, 0)


def test_order_that_cannot_be_processed_fails_the_run(world: AuctionWorld) -> None:
    world.give("accepted", "accepted?")
    dag_run = run()
    assert dag_run.state == "failed"
    assert world.paper("summaries/")["errored"] == 1
    assert len(world.functions.asked(B)) == 2
    (message,) = world.wire.sns
    assert message["Subject"] == "[ERROR] energy_auction: order 1 failed"


def test_other_functions_can_be_named(world: AuctionWorld) -> None:
    world.functions.functions |= {
        "mine-a": lambda payload: results(["x"]),
        "mine-b": lambda order: {"key": "my/key.json"},
    }
    dag_run = run({"function_a": "mine-a", "function_b": "mine-b"})
    assert dag_run.state == "success"
    assert world.paper("summaries/")["keys"] == ["my/key.json"]


def test_orders_are_nowhere_to_be_seen(
    world: AuctionWorld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", logger="airflow_ext")
    statuses = enumerate(["accepted", "rejected", "odd"])
    orders = [{"status": status, "power": n, "note": PLANTED} for n, status in statuses]
    world.answer([NOT_YET, {"results": True, "orders": [*orders, PLANTED]}])
    dag_run = run()
    assert dag_run.state == "failed"
    assert "pl4nted" in str(world.functions.asked(B))
    out, err = capfd.readouterr()
    papers = {key: str(world.s3.bodies(key)) for key in world.s3.objects if not key.endswith("orders.json")}
    assert len(papers) == 1 + 4 + 2, "an order, outcomes, summary and notes"
    everything = {
        "log": caplog.text,
        "printed": out + err,
        "sns": str(world.wire.sns),
        "slack": str(world.wire.slack),
        **{key: text for key, text in papers.items() if not key.startswith("orders/")},
        **kept_by_airflow(dag_run),
    }
    assert dag_run.run_id in everything["log"] + out + err
    assert leaks(everything, PLANTED) == []
