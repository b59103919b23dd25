"""Tasks times connections, against what each partner and each part of Airflow takes at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infra.release.project import Amount, Finding, Project, at_most, bad, good, less

CALL_DETAILS_CALLS = Amount(50, "what the API takes at once", "")
"""Agreed with the partner (spec: call_details, At most 50 calls at once)."""

DEX_CALLS = Amount(256, "what a run may ask of the DEX API at once", "")
"""The partner names no limit. This is what was announced to it: 16 tasks of 16 calls."""

ACCOUNT_FUNCTIONS = Amount(1000, "what an account runs at once", "")
"""Quota of Lambda, concurrent executions of an account and region, unless AWS was asked for another."""


def call_details(project: Project) -> Iterator[Finding]:
    """The ingest's permits are the partner's limit, and its tasks share them as they reckon."""
    check = "concurrency/call-details"
    calls = project.setting("max_concurrent_calls", "calls at once over all files and replays")
    yield at_most(check, calls, CALL_DETAILS_CALLS, "the partner refuses what is beyond")
    tasks = project.task("call_details_ingest", "post_chunk", "at_once", "chunks that are posted at once", "")
    shares = project.constant("include.call_details.poster.TASKS_AT_ONCE", "the tasks that share the calls", "")
    if tasks.value == shares.value:
        yield good(check, tasks.where, f"{tasks} is {shares}")
    else:
        yield bad(
            check,
            tasks.where,
            f"{tasks} must be {shares}: more hold a worker and wait for permits, fewer leave permits unused",
            f"make {tasks.where} and {shares.where} equal",
        )


def dex(project: Project) -> Iterator[Finding]:
    """An archive run asks no more at once than was announced."""
    tasks = project.task("dex_trigger_archive", "archive_client", "at_once", "tasks at once", "")
    calls = project.setting("archive_concurrency", "calls of each")
    where = f"{tasks.where}, or {calls.where}"
    total = Amount(tasks.value * calls.value, f"{tasks.value:g} tasks times {calls.value:g} calls", where)
    yield at_most("concurrency/dex", total, DEX_CALLS, "the API is asked for more than its owner reckons with")


def functions(project: Project) -> Iterator[Finding]:
    """The auction and both APIs at their bursts fit into the account together."""
    tasks = project.dag("energy_auction", "max_active_tasks", "tasks of an auction at once", "")
    calls = project.setting("auction_concurrency", "invocations of each")
    bursts = [project.parameter(name, name).value for name in ("OrdersApiBurstLimit", "EventsApiBurstLimit")]
    # A request takes its function and may take its authorizer; the auction also asks Lambda A.
    total = tasks.value * calls.value + 1 + 2 * sum(bursts)
    where = f"{calls.where}, {tasks.where}, or the parameters OrdersApiBurstLimit and EventsApiBurstLimit"
    auction = f"{tasks.value:g} tasks times {calls.value:g} invocations, beside bursts of {sum(bursts):g} requests"
    yield at_most(
        "concurrency/functions",
        Amount(total, auction, where),
        ACCOUNT_FUNCTIONS,
        "AWS throttles one because of another",
    )


def connections(project: Project) -> Iterator[Finding]:
    """A delivery's threads find a connection each."""
    posts = project.setting("delivery_concurrency", "posts of a task at once")
    extra = project.constant("include.delivery.event_table.CALLS_AT_ONCE", "writers", "")
    # As the courier opens them: half as many lanes again as posts, and a thread for four of these.
    threads = math.floor(math.floor(posts.value * 1.5) / 4) + extra.value
    wanted = Amount(threads, f"threads for {posts.value:g} posts at once", posts.where)
    pool = project.client("quick", "pool", "connections of its clients", "")
    yield at_most(
        "concurrency/connections", wanted, pool, "threads wait for connections, or open ones that are dropped"
    )


def slots(project: Project) -> Iterator[Finding]:
    """No run takes all the slots that others wait for; a limit of the DAG does not undo one of its tasks."""
    check = "concurrency/slots"
    parallelism = project.option("core.parallelism", "tasks that a scheduler runs at once")
    pool = project.option("core.default_pool_task_slot_count", "slots of the default pool")
    workers = project.worker_slots()
    for stem, file in project.airflow.dags.items():
        for dag_id, dag in file["dags"].items():
            whole = project.dag(dag_id, "max_active_tasks", f"tasks of one run of {dag_id} at once", "")
            for limit in (parallelism, pool, workers):
                yield less(check, whole, limit, "one run keeps all others from starting")
            for task_id, task in dag["tasks"].items():
                if task["at_once"] is not None:
                    own = project.task(stem, task_id, "at_once", f"{task_id} at once", "")
                    yield at_most(check, own, whole, "the task's limit is never reached")
    runs = project.dag("event_delivery", "max_active_runs", "runs of event_delivery", "")
    tasks = project.setting("delivery_tasks", "tasks of each")
    total = Amount(
        runs.value * tasks.value,
        f"{runs.value:g} runs of event_delivery times {tasks.value:g} tasks",
        f"{runs.where}, or {tasks.where}",
    )
    yield at_most(check, total, workers, "slow receivers take every slot of the environment")


CHECKS = (call_details, dex, functions, connections, slots)
