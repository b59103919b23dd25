"""Waiting for the auction's results: what Lambda A may do, and that its calls are counted where they arrive."""

import json
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import pytest

from local.stack.description import Stack
from tests.worlds.functions import AdHocFunction
from tests.worlds.live.auction import DAG_ID, NOT_YET, ORDER_TASK, SUMMARY_TASK, WAIT_TASK, Results, orders, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.pipeline import Ended, Pipeline
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

SHORT_WAIT_SECONDS = 4
SHORTEST_PAUSE_SECONDS = 1.5
MALFORMED = {"results": True, "orders": "two"}


@dataclass(frozen=True)
class Played:
    """A run that has ended, and the Lambda A that it asked."""

    run: Ended
    function: AdHocFunction


@pytest.fixture(scope="module")
def played(stack: Stack, auction: Pipeline, functions: Functions) -> dict[str, Played]:
    """One run in which results never come, then five that are started at once."""
    never = functions.auction({"answer": NOT_YET})
    settings = Secrets(stack)
    settings.change(stack.settings_variable, auction_results_timeout=SHORT_WAIT_SECONDS)
    ended = {"never": Played(auction.run(function_a=never.name), never)}
    settings.restore()

    lambdas = {
        "third poll": functions.auction(*[{"answer": NOT_YET}] * 2, {"answer": ready(orders(1))}),
        "troubled": functions.auction(
            {"raise": "the auction is out of reach"},
            {"answer": NOT_YET, "sleep": 9},
            {"die": True},
            {"answer": ready(orders(2))},
            timeout=5,
        ),
        "throttled": functions.auction({"answer": ready(orders(1))}),
        "empty": functions.auction({"answer": ready([])}),
        "malformed": functions.auction({"answer": MALFORMED}),
    }
    functions.client.put_function_concurrency(FunctionName=lambdas["throttled"].name, ReservedConcurrentExecutions=0)
    started = {name: auction.start(function_a=function.name) for name, function in lambdas.items()}
    wait_until(
        lambda: any(task["state"] == "deferred" for task in auction.tasks(started["throttled"])),
        what="the throttled run to wait",
    )
    functions.client.delete_function_concurrency(FunctionName=lambdas["throttled"].name)
    return ended | {name: Played(auction.ended(run_id), lambdas[name]) for name, run_id in started.items()}


def states(run: Ended) -> dict[str, str]:
    """States of the run's tasks; an order task that was never mapped shows as one."""
    return {task["task_id"]: task["state"] for task in run.tasks}


def test_without_results_the_run_is_skipped_says_why_and_harms_no_other(
    auction: Pipeline, results: Results, inbox: Inbox, played: dict[str, Played]
) -> None:
    run = played["never"].run
    assert run.state == "success"
    assert states(run) == dict.fromkeys([WAIT_TASK, ORDER_TASK, SUMMARY_TASK], "skipped")
    assert f"no results within {SHORT_WAIT_SECONDS} s" in waiting_log(auction, run)
    summary = auction.summary(run.id)
    assert (summary["total"], summary["keys"]) == (0, [])
    assert "no results" in summary["reason"]
    assert results.summary(run.id).items() <= summary.items()
    assert inbox.about(run.id, failed=False) == ([], [])
    assert asset_events(auction, run) == []
    assert played["third poll"].run.state == "success"


def test_results_at_the_third_poll_take_three_calls(
    auction: Pipeline, results: Results, played: dict[str, Played]
) -> None:
    run = played["third poll"].run
    assert run.state == "success"
    assert list(run.mapped) == ["order 0"]
    assert results.stored(run.id, 1) == {0: 1}
    # Both logs say where the order was first given to Lambda B.
    assert "orders given to auction-order: 1" in waiting_log(auction, run)
    assert "wait_for_results or an earlier attempt" in auction.log(run.id, ORDER_TASK, map_index=0)
    called = [call["at"] for call in played["third poll"].function.calls()]
    assert len(called) == 3
    # How the waits grow is a matter of unit tests: on a busy machine the first one may well be the longest.
    assert min(later - earlier for earlier, later in pairwise(called)) > SHORTEST_PAUSE_SECONDS


def test_an_error_a_timeout_and_a_crash_of_the_function_are_polls_without_results_and_none_is_repeated(
    results: Results, played: dict[str, Played]
) -> None:
    run = played["troubled"].run
    assert run.state == "success"
    assert run.task(WAIT_TASK)["try_number"] == 1
    assert results.stored(run.id, 2) == {0: 1, 1: 1}
    # A second invocation of the call that timed out would be the crash, and so on.
    assert len(played["troubled"].function.calls()) == 4


def test_a_throttled_call_is_made_again_later(results: Results, played: dict[str, Played]) -> None:
    run = played["throttled"].run
    assert run.state == "success"
    assert results.stored(run.id, 1) == {0: 1}
    assert len(played["throttled"].function.calls()) == 1


def test_no_orders_are_a_success(auction: Pipeline, results: Results, played: dict[str, Played]) -> None:
    run = played["empty"].run
    assert run.state == "success"
    assert states(run) == {WAIT_TASK: "success", ORDER_TASK: "skipped", SUMMARY_TASK: "success"}
    assert results.summary(run.id).items() >= {"total": 0, "accepted": 0, "rejected": 0, "errored": 0}.items()
    assert len(asset_events(auction, run)) == 1


def test_a_malformed_answer_fails_at_once_and_the_alert_says_why(
    auction: Pipeline, inbox: Inbox, played: dict[str, Played]
) -> None:
    run = played["malformed"].run
    assert run.state == "failed"
    assert (run.task(WAIT_TASK)["state"], run.task(WAIT_TASK)["try_number"]) == ("failed", 1)
    assert len(played["malformed"].function.calls()) == 1
    (alert,), (message,) = inbox.about(run.id)
    for text in (alert, json.loads(message)["text"], waiting_log(auction, run)):
        assert "InvalidAnswerError" in text
        assert "orders" in text
    assert asset_events(auction, run) == []


def test_runs_that_are_started_at_once_do_not_overlap(auction: Pipeline, played: dict[str, Played]) -> None:
    runs = [auction.airflow.run(DAG_ID, each.run.id) for each in played.values()]
    times = sorted((datetime.fromisoformat(run["start_date"]), datetime.fromisoformat(run["end_date"])) for run in runs)
    assert len(times) == 6
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(times))


def asset_events(auction: Pipeline, run: Ended) -> list[object]:
    wanted = {"source_dag_id": DAG_ID, "source_run_id": run.id}
    return auction.airflow.request("GET", "/assets/events", params=wanted)["asset_events"]


def waiting_log(auction: Pipeline, run: Ended) -> str:
    return auction.log(run.id, WAIT_TASK)
