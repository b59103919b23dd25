"""Time-outs against each other: whoever waits, waits for longer than what it waits for may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from infra.release.project import Amount, Finding, Project, at_most, bad, good, less

REST_SECONDS = Amount(29, "what API Gateway waits for", "", "s")
"""Integration time-out of a REST API, unless AWS was asked for more."""

HTTP_SECONDS = Amount(30, "what an HTTP API waits for", "", "s")
"""Integration time-out of an HTTP API, which cannot be longer."""

AUTHORIZER_SECONDS = Amount(10, "what API Gateway waits for an authorizer", "", "s")

CALLED_BY_TASKS = ("AuctionResultsFunction", "AuctionOrderFunction")
BEHIND_APIS = {"OrdersApiFunction": REST_SECONDS, "EventsApiFunction": HTTP_SECONDS}
AUTHORIZERS = ("OrdersApiAuthorizerFunction", "EventsApiAuthorizerFunction")


def functions(project: Project) -> Iterator[Finding]:
    """A function ends before its caller gives up, and one call of it is one invocation."""
    check = "timeouts/functions"
    read = project.client("lambda", "read", "what tasks wait for an answer")
    for name in CALLED_BY_TASKS:
        runs = project.resource(name, "Timeout", f"{name} may run")
        yield less(check, runs, read, "an answer on its way is given up, and the function called again")
    attempts = project.client("lambda", "attempts", "attempts of one invocation", "")
    if attempts.value == 1:
        yield good(check, attempts.where, "one call is one invocation")
    else:
        yield bad(check, attempts.where, f"{attempts}: a slow function runs again", "set total_max_attempts to 1")
    connect = project.client("lambda", "connect", "connecting")
    call = replace(read, value=read.value + connect.value, what="a call of a function, connecting included")
    limit = project.task("energy_auction", "process_order", "execution_timeout", "a task may run")
    yield less(check, call, limit, "the task is killed in the middle of its first call")


def apis(project: Project) -> Iterator[Finding]:
    """A function behind an API answers before the gateway does in its place."""
    check = "timeouts/apis"
    why = "the caller gets 503 or 504 while the function still writes"
    for name, limit in BEHIND_APIS.items():
        yield less(check, project.resource(name, "Timeout", f"{name} may run"), limit, why)
    for name in AUTHORIZERS:
        runs = project.resource(name, "Timeout", f"{name} may run")
        yield at_most(check, runs, AUTHORIZER_SECONDS, "API Gateway answers 500")


def tasks(project: Project) -> Iterator[Finding]:
    """A task, and a sensor's wait, ends before its run does."""
    check = "timeouts/tasks"
    for dag_id, file in project.airflow.dags.items():
        for described in file["dags"].values():
            run = project.dag(dag_id, "dagrun_timeout", f"a run of {dag_id} may take")
            for task_id, task in described["tasks"].items():
                own = project.task(dag_id, task_id, "execution_timeout", f"{task_id} may run")
                yield less(check, own, run, "the run ends the task, without an outcome of its own")
                if task["timeout"] is not None:
                    wait = project.task(dag_id, task_id, "timeout", f"{task_id} may wait")
                    yield less(check, wait, run, "the run ends the wait, and fails")


def schedules(project: Project) -> Iterator[Finding]:
    """Runs do not pile up: as many as may be active are over before the next one is due."""
    check = "timeouts/schedules"
    for dag_id, file in project.airflow.dags.items():
        for described in file["dags"].values():
            if described["interval"] is None:
                continue
            between = project.dag(dag_id, "interval", f"from one run of {dag_id} to the next")
            runs = project.dag(dag_id, "max_active_runs", "active runs", "")
            where = f"schedule of dags/{dag_id}.py" + (f" or {runs.where}" if runs.value > 1 else "")
            room = replace(
                between,
                value=between.value * runs.value,
                what=f"{runs.value:g} times the time from one run to the next",
                where=where,
            )
            if runs.value == 1:
                longest = project.dag(dag_id, "dagrun_timeout", f"a run of {dag_id} may take")
            else:
                # Of several, one may last: but its tasks must give way to those of the others.
                limits = (
                    project.task(dag_id, task_id, "execution_timeout", f"{task_id} may run")
                    for task_id in described["tasks"]
                )
                longest = max(limits, key=lambda limit: limit.value)
            yield less(check, longest, room, "runs wait for each other, and fall further and further behind")


def auction(project: Project) -> Iterator[Finding]:
    """The auction's five minutes: each step's limit lies within the next one's."""
    check, times = "timeouts/auction", "include.auction.deadlines"
    setting = project.setting("auction_results_timeout", "results are asked for until", "s")
    results = project.constant(f"{times}.MAX_RESULTS", "results may be asked for until")
    yield at_most(check, setting, results, "no time is left for the orders")
    grace = project.constant(f"{times}.GRACE", "grace")
    kept = replace(results, value=results.value + grace.value, what="orders are kept until")
    wait = project.task("energy_auction", "wait_for_results", "timeout", "the sensor waits until")
    yield at_most(check, kept, wait, "the sensor ends before the orders of Lambda A are kept")
    chain = [
        project.constant(f"{times}.LAST_ORDER", "the last order begins at"),
        project.constant(f"{times}.LAST_ANSWER", "the last answer is waited for until"),
        project.task("energy_auction", "process_order", "execution_timeout", "its task is killed at"),
        project.dag("energy_auction", "dagrun_timeout", "the run is ended at"),
    ]
    for low, high in pairwise(chain):
        yield less(check, low, high, "what comes later is cut off without an outcome")


def archive(project: Project) -> Iterator[Finding]:
    """A group of clients is done before its task's time is up, even if every call takes as long as it may."""
    clients = project.setting("clients_per_task", "clients of a task")
    at_once = project.setting("archive_concurrency", "at once")
    call = project.constant("include.clients.http.TIMEOUT_SECONDS", "a call may take")
    seconds = -(-clients.value // at_once.value) * call.value
    slowest = Amount(
        seconds, f"{clients.value:g} clients, {at_once.value:g} at once, each for {call.value:g} s", clients.where, "s"
    )
    limit = project.task("dex_trigger_archive", "archive_client", "execution_timeout", "a task may run")
    yield less("timeouts/archive", slowest, limit, "a slow API has every attempt killed before it ends")


CHECKS = (functions, apis, tasks, schedules, auction, archive)
