"""The numbers that share the auction's five minutes: they stand where Airflow reads them, and must fit together."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from annotated_types import Le
from jsonschema import Draft202012Validator

from airflow_ext.defaults import SHORT_RUN_DEFAULTS
from airflow_ext.settings import Settings
from include.auction import deadlines
from include.auction.deadlines import RunDeadlines

EVERY = timedelta(minutes=5)


@pytest.fixture
def dag(dagbag: DagBag) -> DAG:
    return dagbag.dags["energy_auction"]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_steps_come_one_after_the_other() -> None:
    limits = [
        deadlines.MAX_RESULTS + deadlines.GRACE,
        deadlines.LAST_ORDER,
        deadlines.LAST_ANSWER,
        deadlines.LAST_ALERT,
        deadlines.RUN,
        EVERY.total_seconds(),
    ]
    assert limits == sorted(set(limits))
    assert deadlines.LAST_ALERT - deadlines.LAST_ANSWER >= deadlines.MIN_ALERTS


def test_settings_leave_time_for_the_orders() -> None:
    field = Settings.model_fields["auction_results_timeout"]
    assert [rule.le for rule in field.metadata if isinstance(rule, Le)] == [deadlines.MAX_RESULTS]
    assert field.default <= deadlines.MAX_RESULTS


def test_runs_come_one_at_a_time_and_each_ends_before_the_next_one_is_due(dag: DAG) -> None:
    assert (dag.schedule, dag.max_active_runs) == ("*/5 * * * *", 1)
    assert dag.dagrun_timeout == seconds(deadlines.RUN)


def test_no_task_is_cut_off_before_it_ends_by_itself(dag: DAG) -> None:
    assert SHORT_RUN_DEFAULTS["execution_timeout"] == seconds(deadlines.MAX_TASK)
    for task in dag.tasks:
        assert task.execution_timeout == seconds(deadlines.MAX_TASK), task.task_id
    assert deadlines.LAST_ANSWER < deadlines.MAX_TASK < deadlines.RUN


def test_silent_trigger_is_given_up_when_orders_would_come_too_late(dag: DAG) -> None:
    sensor: Any = dag.get_task("wait_for_results")
    assert seconds(sensor.timeout) == seconds(deadlines.LAST_ORDER)


def test_clock_counts_from_the_start_of_the_run() -> None:
    clock = RunDeadlines(1000.0, lambda: 1200.0)
    assert clock.left(deadlines.LAST_ORDER) == 55
    assert clock.left(100) == -100
    start = datetime(2026, 3, 8, 6, tzinfo=UTC)
    assert RunDeadlines.of(start).started == start.timestamp()
    assert RunDeadlines.of(None, lambda: 1200.0).left(10) == 10


@pytest.mark.parametrize(("age", "expected"), [(0, 40), (250, 35), (284, 5), (400, 5)])
def test_telling_takes_what_is_left_but_never_all_or_nothing(age: float, expected: float) -> None:
    assert RunDeadlines(0.0, lambda: age).alerts() == expected


FUNCTIONS = [
    "auction-order",
    "auction-order:$LATEST",
    "arn:aws:lambda:us-east-1:123456789012:function:a:live",
    "a" * 170,
]
NO_FUNCTIONS = ["", "auction-order\n", "a\nb", "a b", "a/b", "a" * 171, "é"]


@pytest.mark.parametrize("param", ["function_a", "function_b"])
def test_functions_are_names_and_nothing_follows(param: str, dag: DAG) -> None:
    schema = dag.params.get_param(param).schema
    assert re.compile(schema["pattern"])
    valid = Draft202012Validator(schema).is_valid
    assert [name for name in FUNCTIONS if not valid(name)] == []
    assert [name for name in NO_FUNCTIONS if valid(name)] == []
