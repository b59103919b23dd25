"""Numbers that bound each other, as one table: what has to be smaller, than what, and what would happen otherwise.

Time-outs against each other (whoever waits, waits for longer than what it waits for may take), tasks times connections
against what partners and Airflow take at once, leases against the runs that they hold up, queues against their readers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.release.project import Amount, Finding, Project, at_most

Term = str | Amount | tuple["Term", ...] | Callable[[Project], Amount]
"""A number: by the dotted name of a constant of the code; by a method of :class:`Project` and its arguments, as
``setting max_retries`` or ``task energy_auction summarize execution_timeout``; a sum of others; or what a function
makes of others."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A row of the table.

    Args:
        check: name of the check, ``family/what``; several rows may share one.
        smaller: the one number.
        relation: ``<`` or ``<=``.
        greater: the other.
        why: what would happen otherwise; a clause.
    """

    check: str
    smaller: Term
    relation: str
    greater: Term
    why: str

    def __call__(self, project: Project) -> Iterator[Finding]:
        """Compare the numbers of a project; raises what the methods of :class:`Project` raise."""
        smaller, greater = amount(project, self.smaller), amount(project, self.greater)
        yield at_most(self.check, smaller, greater, self.why, less=self.relation == "<")


def amount(project: Project, term: Term) -> Amount:
    """The number that a term stands for; raises what the methods of :class:`Project` raise."""
    if isinstance(term, Amount):
        return term
    if isinstance(term, str):
        method, *arguments = term.split() if " " in term else ("constant", term)
        found: Amount = getattr(project, method)(*arguments)
        return found
    if isinstance(term, tuple):
        return _together(" + ", sum, [amount(project, each) for each in term])
    return term(project)


def product(*terms: Term) -> Term:
    """Some numbers times each other."""
    return lambda project: _together(" * ", math.prod, [amount(project, each) for each in terms])


def _together(sign: str, calculate: Callable[[list[float]], float], found: list[Amount]) -> Amount:
    what = sign.join(f"{each.what} ({each.value:g})" for each in found)
    where = ", or ".join(dict.fromkeys(each.where for each in found if each.where))
    return Amount(calculate([each.value for each in found]), what, where)


def _invocations(project: Project) -> Amount:
    """Invocations at once of the auction and of both APIs at their bursts."""
    tasks, calls = project.dag("energy_auction", "max_active_tasks"), project.setting("auction_concurrency")
    bursts = [project.parameter(name) for name in ("OrdersApiBurstLimit", "EventsApiBurstLimit")]
    requests = sum(burst.value for burst in bursts)
    what = f"{tasks.value:g} tasks times {calls.value:g} invocations, beside bursts of {requests:g} requests"
    # A request takes its function and may take its authorizer; the auction also asks Lambda A.
    return Amount(
        tasks.value * calls.value + 1 + 2 * requests, what, ", or ".join(each.where for each in (calls, tasks, *bursts))
    )


def _threads(project: Project) -> Amount:
    """Threads of a delivery: half as many owner queues again as posts, a thread for four of these, and the writers."""
    posts, writers = project.setting("delivery_concurrency"), project.constant(f"{_DELIVERY}.event_table.CALLS_AT_ONCE")
    threads = math.floor(math.floor(posts.value * 1.5) / 4) + writers.value
    return Amount(threads, f"threads for {posts.value:g} posts at once", posts.where)


def _slowest_group(project: Project) -> Amount:
    """Seconds of a group of clients of which every call takes as long as it may."""
    clients, most = project.setting("clients_per_task"), project.setting("archive_concurrency")
    calls, tasks = project.constant(_DEX_SHARED), project.constant(_DEX_SHARING)
    call = project.constant("include.clients.http.TIMEOUT_SECONDS")
    at_once = min(most.value, calls.value // tasks.value)
    what = f"{clients.value:g} clients, {at_once:g} at once, each for {call.value:g} s"
    return Amount(math.ceil(clients.value / at_once) * call.value, what, clients.where, "s")


def _slowest_extension(project: Project) -> Amount:
    """Seconds until the slowest call extends a message's time, begun after a third of that."""
    hidden = project.constant(_HIDDEN)
    read, connect, attempts = (project.client("quick", field) for field in ("read", "connect", "attempts"))
    slowest = (read.value + connect.value) * attempts.value
    return Amount(hidden.value / 3 + slowest, "a third of its time, and the slowest call that extends it", read.where)


def _hidden_wake_up(project: Project) -> Amount:
    """Seconds, of which SQS takes 30 for a queue that says nothing else."""
    return project.resource("EventQueue", "VisibilityTimeout", default=30)


_CALL_DETAILS, _DELIVERY, _DEADLINES = "include.call_details", "include.delivery", "include.auction.deadlines"
_DEX_SHARED, _DEX_SHARING = "include.archive.models.CALLS_AT_ONCE", "include.archive.models.TASKS_AT_ONCE"
_PERMITS = f"{_CALL_DETAILS}.rate_limit"
_FILE_LEASE, _EVENT_LEASE = f"{_CALL_DETAILS}.ledger.LEASE_SECONDS", f"{_DELIVERY}.ledger.LEASE_SECONDS"
_HIDDEN = f"{_CALL_DETAILS}.dead_letters.VISIBILITY_SECONDS"
_SHARING = f"{_CALL_DETAILS}.models.TASKS_AT_ONCE"
_POSTING = "task call_details_ingest post_chunk at_once"
_PROCESSING = "task energy_auction process_order execution_timeout"
_WAKE_UP = "resource EventQueue MessageRetentionPeriod"

# Agreed with the partner (spec: call_details, At most 50 calls at once).
_API_CALLS = Amount(50, "what the call-details API takes at once", "")
# The partner names no limit. This is what was announced to it: 16 tasks of 16 calls.
_DEX_CALLS = Amount(256, "what a run may ask of the DEX API at once", "")
# Quota of Lambda, concurrent executions of an account and region, unless AWS was asked for another.
_INVOCATIONS = Amount(1000, "what an account runs at once", "")
# Integration time-out of a REST API, unless AWS was asked for more; of an HTTP API it cannot be longer.
_REST, _HTTP = Amount(29, "what a REST API waits for", "", "s"), Amount(30, "what an HTTP API waits for", "", "s")
_AUTHORIZER = Amount(10, "what API Gateway waits for an authorizer", "", "s")

# fmt: off
TABLE = tuple(Budget(*row) for row in (
    ("concurrency/call-details", "setting max_concurrent_calls", "<=", _API_CALLS,
     "the partner refuses what is beyond"),
    ("concurrency/call-details", _POSTING, "<=", _SHARING, "tasks hold a worker and wait for permits"),
    ("concurrency/call-details", _SHARING, "<=", _POSTING, "permits are left unused"),
    ("concurrency/dex", _DEX_SHARED, "<=", _DEX_CALLS,
     "the API is asked for more than its owner reckons with"),
    ("concurrency/dex", "task dex_trigger_archive archive_client at_once", "<=", _DEX_SHARING,
     "more tasks make calls at once than share them"),
    ("concurrency/functions", _invocations, "<=", _INVOCATIONS, "AWS throttles one because of another"),
    ("concurrency/connections", _threads, "<=", "client quick pool",
     "threads wait for connections, or open ones that are dropped"),
    ("concurrency/slots", product("dag event_delivery max_active_runs", "setting delivery_tasks"),
     "<=", Project.worker_slots, "slow receivers take every slot of the environment"),

    ("concurrency/workers", "workers MinWorkers", "<=", "workers MaxWorkers", "MWAA refuses the environment"),

    ("timeouts/functions", "resource AuctionResultsFunction Timeout", "<", "client lambda read",
     "an answer on its way is given up, and the function called again"),
    ("timeouts/functions", "resource AuctionOrderFunction Timeout", "<", "client lambda read",
     "an answer on its way is given up, and the function called again"),
    ("timeouts/functions", "client lambda attempts", "<=", Amount(1, "one invocation a call", ""),
     "a slow function runs again: set total_max_attempts to 1"),
    ("timeouts/functions", ("client lambda read", "client lambda connect"), "<", _PROCESSING,
     "the task is killed in the middle of its first call"),
    ("timeouts/apis", "resource OrdersApiFunction Timeout", "<", _REST,
     "the caller gets 503 or 504 while the function still writes"),
    ("timeouts/apis", "resource EventsApiFunction Timeout", "<", _HTTP,
     "the caller gets 503 or 504 while the function still writes"),
    ("timeouts/apis", "resource OrdersApiAuthorizerFunction Timeout", "<=", _AUTHORIZER, "API Gateway answers 500"),
    ("timeouts/apis", "resource EventsApiAuthorizerFunction Timeout", "<=", _AUTHORIZER, "API Gateway answers 500"),
    # The auction's five minutes: each step's limit lies within the next one's.
    ("timeouts/auction", "setting auction_results_timeout", "<=", f"{_DEADLINES}.MAX_RESULTS",
     "no time is left for the orders"),
    ("timeouts/auction", (f"{_DEADLINES}.MAX_RESULTS", f"{_DEADLINES}.GRACE"), "<=",
     "task energy_auction wait_for_results timeout", "the sensor ends before the orders of Lambda A are kept"),
    ("timeouts/auction", f"{_DEADLINES}.LAST_ORDER", "<", f"{_DEADLINES}.LAST_ANSWER",
     "the last answer is cut off without an outcome"),
    ("timeouts/auction", f"{_DEADLINES}.LAST_ANSWER", "<", _PROCESSING,
     "the last answer is cut off without an outcome"),
    ("timeouts/auction", _PROCESSING, "<", "dag energy_auction dagrun_timeout",
     "the last task is cut off without an outcome"),
    ("timeouts/archive", _slowest_group, "<", "task dex_trigger_archive archive_client execution_timeout",
     "a slow API has every attempt killed before it ends"),

    ("leases/permits", "include.clients.call_details.POST_SECONDS", "<=", f"{_PERMITS}.CALL_SECONDS",
     "a call goes on when its permit is somebody else's"),
    ("leases/permits", tuple(f"{_PERMITS}.{name}_SECONDS" for name in ("CALL", "SKEW", "RENEW")), "<",
     f"{_PERMITS}.LEASE_SECONDS", "calls wait for the next renewal though permits are free"),
    ("leases/permits", f"{_PERMITS}.WAIT_SECONDS", "<", "task call_details_ingest post_chunk execution_timeout",
     "a task without permits is killed instead of leaving its worker to others"),
    ("leases/claims", "airflow_ext.defaults.MAX_BACKOFF_SECONDS", "<", _FILE_LEASE,
     "another run takes the file over while the first waits to go on"),
    ("leases/claims", "airflow_ext.defaults.MAX_RETRY_AFTER_SECONDS", "<=",
     f"{_CALL_DETAILS}.ledger.MAX_PAUSE_SECONDS",
     "another run takes the file over while the first waits as it was asked to"),
    ("leases/delivery", ("include.clients.webhooks.POST_SECONDS", f"{_DELIVERY}.models.SKEW_SECONDS"), "<",
     _EVENT_LEASE, "nothing is ever posted: a claim would end during the post"),
    ("leases/delivery", (f"{_DELIVERY}.dispatcher.DELIVER_SECONDS", _EVENT_LEASE), "<",
     "task event_delivery deliver execution_timeout",
     "a task is killed with posts under way, whose outcome is lost"),

    ("queues/visibility", _slowest_extension, "<", _HIDDEN, "another replay posts the same batch"),
    ("queues/visibility", "client quick read", "<", _hidden_wake_up,
     "a message is given out again while it is deleted"),
    ("queues/poll", "airflow_ext.triggers.sqs_wakeup._POLL_SECONDS", "<", "client quick read",
     "every poll of an empty queue is broken off and repeated"),
    ("queues/poll", f"{_CALL_DETAILS}.dead_letters._WAIT_SECONDS", "<", "client quick read",
     "every poll of an empty queue is broken off and repeated"),
    ("queues/retention", _WAKE_UP, "<", "resource EventDeadLetters MessageRetentionPeriod",
     "what failed is gone before what is on its way"),
    ("queues/retention", "dag event_delivery interval", "<", _WAKE_UP,
     "a wake-up is dropped before anybody could have been woken"),
))
"""What holds whatever DAGs there are."""
# fmt: on

_SCHEDULER = "option scheduler"
_LOST: tuple[Term, ...] = (
    # Until a lost worker's task is tried again, a lost scheduler's are taken over, a lost triggerer's waits go on.
    (
        f"{_SCHEDULER}.task_instance_heartbeat_timeout",
        f"{_SCHEDULER}.task_instance_heartbeat_timeout_detection_interval",
    ),
    (f"{_SCHEDULER}.orphaned_tasks_check_interval", f"{_SCHEDULER}.scheduler_health_check_threshold"),
    "option triggerer.triggerer_health_check_threshold",
)
_HELD = {"call_details_ingest": _FILE_LEASE, "call_details_replay": _FILE_LEASE, "event_delivery": _EVENT_LEASE}
"""Leases that a run may have to wait for, by its DAG."""


def budgets(project: Project) -> Iterator[Budget]:
    """The table, and its rows for each DAG and task of a project."""
    yield from TABLE
    for stem, file in project.airflow.dags.items():
        for described in file["dags"].values():
            yield from _of_dag(stem, described)
            for task_id, found in described["tasks"].items():
                yield from _of_task(stem, task_id, found)


def _of_dag(stem: str, described: dict[str, Any]) -> Iterator[Budget]:
    whole, run = f"dag {stem} max_active_tasks", f"dag {stem} dagrun_timeout"
    for limit in ("option core.parallelism", "option core.default_pool_task_slot_count", Project.worker_slots):
        yield Budget("concurrency/slots", whole, "<", limit, "one run keeps all others from starting")
    for wait in (*_LOST, *([_HELD[stem]] if stem in _HELD else [])):
        twice = product(wait, Amount(2, "twice", ""))
        why = "a run that loses somebody in its middle is over before it goes on"
        yield Budget("leases/lost", twice, "<", run, why)
    if described["interval"] is not None:
        room = product(f"dag {stem} interval", f"dag {stem} max_active_runs")
        limits = [f"task {stem} {task_id} execution_timeout" for task_id in described["tasks"]]
        # Of several runs, one may last: but its tasks must give way to those of the others.
        for longest in limits if described["max_active_runs"] > 1 else [run]:
            why = "runs wait for each other, and fall further and further behind"
            yield Budget("timeouts/schedules", longest, "<", room, why)


def _of_task(stem: str, task_id: str, found: dict[str, Any]) -> Iterator[Budget]:
    own, run = f"task {stem} {task_id}", f"dag {stem} dagrun_timeout"
    why = "the run ends the task, without an outcome of its own"
    yield Budget("timeouts/tasks", f"{own} execution_timeout", "<", run, why)
    if found["timeout"] is not None:
        yield Budget("timeouts/tasks", f"{own} timeout", "<", run, "the run ends the wait, and fails")
    if found["at_once"] is not None:
        whole = f"dag {stem} max_active_tasks"
        yield Budget("concurrency/slots", f"{own} at_once", "<=", whole, "the task's limit is never reached")
