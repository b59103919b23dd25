"""Whole runs of ``energy_auction`` through Airflow's own task runner, against a world of ours."""

from typing import Any

import pendulum
import pytest
from airflow.models.dagrun import DagRun

from include.auction.keys import order_id
from tests.dags.runs import kept_by_airflow, run_dag, states
from tests.worlds.auction import A, AuctionWorld, B, results
from tests.worlds.pipeline import PLANTED, leaks

pytestmark = pytest.mark.usefixtures("airflow_database")

NOT_YET = {"results": False}


world = AuctionWorld.fixture()


def run(conf: dict[str, Any] | None = None, **options: Any) -> DagRun:
    return run_dag("energy_auction", conf, **options)


def test_every_order_has_a_task_an_outcome_and_a_name(world: AuctionWorld) -> None:
    world.give("accepted", "rejected", "accepted")
    dag_run = run(logical_date=pendulum.datetime(2026, 3, 8, 11))
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
    assert world.orders() == sorted(f"orders/2026/03/08/order_{number}.json" for number in accepted)
    assert len(world.functions.asked(B)) == 3, "a rejected order is not worth a retry"
    (message,), (post,) = world.wire.sns, world.wire.slack
    assert order_id(dag_run.run_id, 1) in message["Message"]
    assert "/tasks/process_order/mapped/1" in post["text"]


def test_results_are_waited_for_in_the_triggerer(world: AuctionWorld) -> None:
    world.answer([NOT_YET, NOT_YET, results(["accepted"])])
    # As `airflow dags test` makes one: its start is the logical date, which the wait must not be counted from.
    dag_run = run(logical_date=pendulum.datetime(2026, 3, 8, 12))
    assert dag_run.state == "success"
    assert len(world.functions.asked(A)) == 3
    assert len(world.orders()) == 1


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
    documents = {key: str(world.s3.bodies(key)) for key in world.s3.objects if not key.endswith("orders.json")}
    assert len(documents) == 1 + 4 + 2, "an order, outcomes, summary and notes"
    everything = {
        "log": caplog.text,
        "printed": out + err,
        "sns": str(world.wire.sns),
        "slack": str(world.wire.slack),
        **{key: text for key, text in documents.items() if not key.startswith("orders/")},
        **kept_by_airflow(dag_run),
    }
    assert dag_run.run_id in everything["log"] + out + err
    assert leaks(everything, PLANTED) == []
