"""Leases and heartbeats against the runs that they hold up, and queues against those who read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from infra.release.project import Amount, Finding, Project, at_most, less

SQS_VISIBILITY = 30
"""Seconds, of a queue that says nothing else."""


def permits(project: Project) -> Iterator[Finding]:
    """A permit of the call-details API outlasts the call that it allows, with time to renew it."""
    check = "leases/permits"
    post = project.constant("include.clients.call_details.POST_SECONDS", "a call may take")
    reckoned = project.constant("include.call_details.rate_limit.CALL_SECONDS", "what a permit reckons with for it")
    yield at_most(check, post, reckoned, "a call goes on when its permit is somebody else's")
    skew = project.constant("include.call_details.rate_limit.SKEW_SECONDS", "skew")
    renew = project.constant("include.call_details.rate_limit.RENEW_SECONDS", "from one renewal to the next")
    needed = reckoned.value + skew.value + renew.value
    held = replace(reckoned, value=needed, what="a call, clocks that differ, and the time between two renewals")
    lease = project.constant("include.call_details.rate_limit.LEASE_SECONDS", "the lease of permits")
    yield less(check, held, lease, "calls wait for the next renewal though permits are free")
    patience = project.constant("include.call_details.rate_limit.WAIT_SECONDS", "a task waits for a permit")
    limit = project.task("call_details_ingest", "post_chunk", "execution_timeout", "it may run")
    yield less(check, patience, limit, "a task without permits is killed instead of leaving its worker to others")


def claims(project: Project) -> Iterator[Finding]:
    """The claim on a file survives the pauses between two attempts of its tasks."""
    check = "leases/claims"
    lease = project.constant("include.call_details.ledger.LEASE_SECONDS", "the lease of a file")
    backoff = project.constant("airflow_ext.defaults.MAX_BACKOFF_SECONDS", "longest delay before a retry")
    yield less(check, backoff, lease, "another run takes the file over while the first waits to go on")
    asked = project.constant("airflow_ext.defaults.MAX_RETRY_AFTER_SECONDS", "longest delay that an API may ask for")
    pause = project.constant("include.call_details.ledger.MAX_PAUSE_SECONDS", "longest pause that a claim survives")
    yield at_most(check, asked, pause, "another run takes the file over while the first waits as it was asked to")


def lost(project: Project) -> Iterator[Finding]:
    """A run survives the loss of a worker, a scheduler or a triggerer, and that of whoever holds a lease."""
    check = "leases/lost"
    missed = _both(
        project.option("scheduler.task_instance_heartbeat_timeout", "s without a heartbeat", "s"),
        project.option("scheduler.task_instance_heartbeat_timeout_detection_interval", "s between two checks", "s"),
        "until a lost worker's task is tried again",
    )
    orphaned = _both(
        project.option("scheduler.orphaned_tasks_check_interval", "s between two checks", "s"),
        project.option("scheduler.scheduler_health_check_threshold", "s without a heartbeat", "s"),
        "until a lost scheduler's tasks are taken over",
    )
    waiting = project.option("triggerer.triggerer_health_check_threshold", "until a lost triggerer's waits go on", "s")
    file = project.constant("include.call_details.ledger.LEASE_SECONDS", "the lease of a file")
    events = project.constant("include.delivery.owner_queue.LEASE_SECONDS", "the lease of an event")
    held = {"call_details_ingest": [file], "call_details_replay": [file], "event_delivery": [events]}
    for dag_id, found in project.airflow.dags.items():
        if dag_id not in found["dags"]:
            continue
        run = project.dag(dag_id, "dagrun_timeout", f"a run of {dag_id} may take")
        half = replace(run, value=run.value / 2, what=f"half of what {run.what}")
        for each in (missed, orphaned, waiting, *held.get(dag_id, ())):
            yield less(check, each, half, "a run that loses somebody in its middle is over before it goes on")


def _both(one: Amount, other: Amount, what: str) -> Amount:
    return replace(one, value=one.value + other.value, what=what, where=f"{one.where}, and {other.where}")


def delivery(project: Project) -> Iterator[Finding]:
    """A claim on events outlasts a post, and a task ends by itself before it is killed."""
    check = "leases/delivery"
    post = project.constant("include.clients.webhooks.POST_SECONDS", "a post may take")
    skew = project.constant("include.delivery.models.SKEW_SECONDS", "skew")
    needed = replace(post, value=post.value + skew.value, what="a post, and clocks that differ")
    lease = project.constant("include.delivery.owner_queue.LEASE_SECONDS", "the lease of an event")
    yield less(check, needed, lease, "nothing is ever posted: a claim would end during the post")
    share = project.constant("include.delivery.dispatcher.DELIVER_SECONDS", "a task begins posts for")
    longest = replace(share, value=share.value + lease.value, what="a task begins posts, and a lease after that")
    limit = project.task("event_delivery", "deliver", "execution_timeout", "it may run")
    yield less(check, longest, limit, "a task is killed with posts under way, whose outcome is lost")


def replay(project: Project) -> Iterator[Finding]:
    """A dead letter stays hidden while it is posted again."""
    hidden = project.constant("include.call_details.dead_letters.VISIBILITY_SECONDS", "a message stays hidden")
    asking = _longest_call(project)
    # It is extended three times as often as it would end.
    needed = replace(
        asking, value=hidden.value / 3 + asking.value, what="a third of its time, and the slowest call that extends it"
    )
    yield less("queues/visibility", needed, hidden, "another replay posts the same batch")


def wake_up(project: Project) -> Iterator[Finding]:
    """The queue that wakes the delivery is read and emptied in time."""
    poll = project.constant("airflow_ext.triggers.sqs_wakeup._POLL_SECONDS", "a long poll of the event queue")
    other = project.constant("include.call_details.dead_letters._WAIT_SECONDS", "a long poll of the dead letters")
    read = project.client("quick", "read", "what its client waits for an answer")
    for each in (poll, other):
        yield less("queues/poll", each, read, "every poll of an empty queue is broken off and repeated")
    shown = project.resource("EventQueue", "VisibilityTimeout", "a message stays hidden", default=SQS_VISIBILITY)
    yield less("queues/visibility", read, shown, "a message is given out again while it is deleted")


def retention(project: Project) -> Iterator[Finding]:
    """What failed is kept for longer than what is on its way; and that until the next timed run."""
    field = "MessageRetentionPeriod"
    queue = project.resource("EventQueue", field, "a wake-up is kept")
    letters = project.resource("EventDeadLetters", field, "a dead letter is kept")
    yield less("queues/retention", queue, letters, "what failed is gone before what is on its way")
    interval = project.dag("event_delivery", "interval", "from one timed run to the next")
    yield less("queues/retention", interval, queue, "a wake-up is dropped before anybody could have been woken")


CHECKS = (permits, claims, lost, delivery, replay, wake_up, retention)


def _longest_call(project: Project) -> Amount:
    read = project.client("quick", "read", "a call")
    connect = project.client("quick", "connect", "connecting")
    attempts = project.client("quick", "attempts", "attempts", "")
    return replace(read, value=(read.value + connect.value) * attempts.value)
