from datetime import date
from typing import Any

from include.alerts import Alert, RunRef, Severity
from include.auction.alerts import no_orders, order_alerts
from include.auction.models import OrderOutcome, Result, Summary, slice_of


def log_url(task: str, map_index: int | None) -> str:
    return f"http://airflow.test/{task}/{map_index}"


RUN = RunRef("energy_auction", "run", log_url)


def outcome(index: int, result: Result, reason: str | None = None, **more: Any) -> OrderOutcome:
    return OrderOutcome(index, f"id-{index}", result, reason=reason, **more)


def alerts(*outcomes: OrderOutcome) -> dict[str, Alert]:
    """Of orders that are two to a task."""
    slices = [slice_of(start, min(start + 2, len(outcomes))) for start in range(0, len(outcomes), 2)]
    summary = Summary("run", date(2026, 3, 8), outcomes)
    return order_alerts(RUN, summary, slices)


def test_accepted_orders_are_no_news() -> None:
    assert alerts(outcome(0, Result.ACCEPTED, key="k")) == {}


def test_each_order_that_was_not_accepted_has_an_alert_of_its_own() -> None:
    found = alerts(
        outcome(0, Result.REJECTED, "the price"),
        outcome(1, Result.ACCEPTED),
        outcome(2, Result.ERRORED, "a throttle"),
        outcome(3, Result.REJECTED, "the price"),
    )
    assert list(found) == ["id-0/rejected", "id-2/errored", "id-3/rejected"]
    assert [alert.severity for alert in found.values()] == [Severity.WARNING, Severity.ERROR, Severity.WARNING]
    assert found["id-0/rejected"].subject == "[WARNING] energy_auction: order 0 was rejected"
    assert found["id-2/errored"].subject == "[ERROR] energy_auction: order 2 failed"
    assert found["id-3/rejected"].text == (
        "WARNING in pipeline energy_auction: order 3 was rejected\n"
        "run: run\n"
        "- order 3 (id id-3) in process_order[1]: the price\n"
        "    log: http://airflow.test/process_order/1\n"
        "what to do: docs/RUNBOOK.md#a-rejected-order"
    )
    assert found["id-2/errored"].next_step == "docs/RUNBOOK.md#energy-auction-failed-run"


def test_order_without_a_reason_is_reported_too() -> None:
    assert "no reason given" in alerts(outcome(0, Result.ERRORED))["id-0/errored"].text


def test_run_without_orders_is_reported_in_one_alert() -> None:
    alert = no_orders(RUN, what="no order was processed", reason="malformed")
    assert alert.subject == "[ERROR] energy_auction: no order was processed: waiting for results failed"
    assert (
        "- the results in wait_for_results: malformed\n    log: http://airflow.test/wait_for_results/None" in alert.text
    )
