"""A task that dies in the middle of a post, and a wake-up that gets lost: the table has what is to be done."""

import time

from include.delivery.models import SKEW_SECONDS
from local.stack.description import Stack
from tests.worlds.live.delivery import DELIVER_TASK, Delivery
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.processes import running_tasks
from tests.worlds.live.waiting import wait_until


def test_killed_task_and_lost_wake_up_leave_nothing_behind(
    stack: Stack, delivery: Delivery, partners: Partners, inbox: Inbox
) -> None:
    owner, other = delivery.owner("killed"), delivery.owner("unnoticed")
    partners.order(owner.rule(latency_ms=60_000))
    first, second = (delivery.post(owner) for _ in range(2))
    delivery.wait_for_arrival(first, owner)
    victim = delivery.task_of(owner)
    running_tasks(stack)[victim["id"]].kill()
    posted = delivery.arrived(owner)
    partners.order()
    free_at = delivery.event(first)["lease_until"] + SKEW_SECONDS

    # Both wait for the clock: this one for the next run of the schedule, the other one for the end of its lease.
    unnoticed = delivery.keep(other)
    delivery.wait_for("delivered", unnoticed)

    run = delivery.pipeline.ended(victim["dag_run_id"])
    assert run.state == "success"
    tries = {task["map_index"]: task["try_number"] for task in run.tasks if task["task_id"] == DELIVER_TASK}
    assert tries[victim["map_index"]] == 2
    wait_until(lambda: time.time() > free_at, what="the end of the lease")
    third = delivery.post(owner)
    delivery.wait_for("delivered", first, second, third)
    assert set(posted) == {first}
    assert delivery.arrived(owner) == [*posted, first, second, third]
    assert [text for text in inbox.sns() if victim["dag_run_id"] in text] == []
