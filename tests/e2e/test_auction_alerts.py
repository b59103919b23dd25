"""People who cannot be told: the auction's result does not depend on it."""

import json
from typing import Any

import pytest

from local.stack.description import Stack
from tests.worlds.live.auction import NOT_YET, ORDER_TASK, SUMMARY_TASK, WAIT_TASK, Results, order_id, orders, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Ended, Pipeline
from tests.worlds.live.secrets import Secrets

SLACK = "/slack/services"
REJECTED = [1, 2]


@pytest.fixture(scope="module")
def offered(functions: Functions) -> str:
    """Lambda A with two orders that are rejected beside one that is accepted."""
    return functions.auction({"answer": ready(orders(1) + orders(2, status="rejected"))}).name


def assert_result(run: Ended, results: Results) -> None:
    """The run ended as it does when everybody can be told."""
    assert run.state == "success"
    assert {name: task["state"] for name, task in run.mapped.items()} == {
        "order 0": "success",
        "order 1": "failed",
        "order 2": "failed",
    }
    assert results.summary(run.id).items() >= {"total": 3, "accepted": 1, "rejected": 2, "errored": 0}.items()


def assert_told(messages: list[str], run: Ended) -> None:
    assert [sum(order_id(run.id, index) in text for text in messages) for index in REJECTED] == [1, 1]
    assert len(messages) == 2


def test_control_character_in_the_words_of_functions_is_a_visible_escape_for_triggerer_database_and_people(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results, inbox: Inbox, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, rejection_errors=["RuntimeError"])
    fails_once: list[dict[str, Any]] = [
        {"answer": NOT_YET},
        {"raise": "RuntimeError: A rings \a"},
        {"answer": ready(orders(1))},
    ]
    rejects = functions.auction({"raise": "RuntimeError: B rings \a"})
    run = auction.run(function_a=functions.auction(*fails_once).name, function_b=rejects.name)
    assert run.state == "success"
    assert any(r"A rings \x07" in line["event"] for line in auction.log_lines(run.id, WAIT_TASK))
    (refused,) = results.summary(run.id)["not_accepted"]
    assert refused["reason"].endswith(r"B rings \x07")
    (sns,), (slack,) = inbox.about(run.id, failed=False)
    assert r"B rings \x07" in sns
    assert r"B rings \x07" in json.loads(slack)["text"]


def test_slack_is_down_and_sns_alerts(
    auction: Pipeline, results: Results, inbox: Inbox, partners: Partners, offered: str
) -> None:
    broken: list[dict[str, Any]] = [{"count": 2, "status": 500}, {"count": 2, "latency_ms": 60_000}, {"cut": "before"}]
    partners.order(*({"path": SLACK, **fault} for fault in broken))
    run = auction.run(function_a=offered)
    assert_result(run, results)
    sns, slack = inbox.about(run.id, failed=False)
    assert slack == []
    assert_told(sns, run)
    assert "not delivered through slack" in auction.log(run.id, SUMMARY_TASK)
    seen = {(call["status"], call["end"]) for call in partners.calls(SLACK)}
    assert seen >= {(500, "answered"), (None, "client left"), (None, "cut before")}


def test_both_are_down_and_the_first_error_is_still_the_one_that_is_shown(
    stack: Stack,
    auction: Pipeline,
    functions: Functions,
    results: Results,
    inbox: Inbox,
    partners: Partners,
    secrets: Secrets,
) -> None:
    topic = secrets.read(stack.settings_variable)["alerts_topic_arn"]
    secrets.change(stack.settings_variable, alerts_topic_arn=f"{topic}-gone")
    partners.order({"path": SLACK, "cut": "before"})
    offered = functions.auction({"answer": ready([*orders(1), *orders(1, status="rejected"), {"status": "odd"}])})
    run = auction.run(function_a=offered.name)

    assert run.state == "failed"
    assert results.summary(run.id).items() >= {"accepted": 1, "rejected": 1, "errored": 1}.items()
    assert "InvalidOrderError" in auction.log(run.id, ORDER_TASK, map_index=2)
    log = auction.log(run.id, SUMMARY_TASK)
    assert "WorkFailedError" in log
    assert "not delivered through sns" in log
    assert "not delivered through slack" in log
    # Nor does the DAG's own callback, which tries once more, get through.
    assert inbox.about(run.id) == ([], [])
