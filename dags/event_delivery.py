"""# Event delivery: post events to their owners' webhooks

**What.** Finds the events of the events API that are due, and posts each to its owner's webhook, signed, in the order
of their creation. `select_due` finds the owners, `deliver` works through the events of a share of them, `summarize`
counts and tells.

**Schedule.** Whenever the events API says that there is a new event (queue `event-delivery-<env>`), and every minute,
which also finds the events whose next attempt has come. Up to eight runs at a time: while one waits for slow receivers,
another delivers to the rest. No two post events of the same owner at once.

**Reads.** The tables `events-<env>`, which alone decides what is due, and `subscriptions-<env>`; the Variable
`settings`: `max_delivery_attempts` (11), `delivery_tasks` (4), `delivery_concurrency` (64 posts at once in each task).

**Writes.** Posts to webhooks: to public addresses over https only, without redirects, within ten seconds. What became
of each into its event. For one that failed for good, a message in the queue `event-delivery-dlq-<env>`. A webhook that
answers 410 is turned off.

**When it fails.** A post that is not answered with 2xx is repeated after a second, then two, then four and so on, up to
an hour; from the fourth time on, or if the receiver took more than three seconds to refuse it, the run of the next
minute does it. A receiver that stays slow for 20 seconds is left to it too. `Retry-After` is honoured. The owner's
later events wait, other owners' do not. After the last attempt the event is `failed`, and an alert tells of it. A task
that dies leaves its events to a later run, as soon as their leases have ended, which takes a minute: receivers may get
an event twice, with the same `Webhook-Id`. The run fails if it could not find out what is due, or a task gave up;
nothing is lost by that.

**Run again.** Never needed: the next run takes what is due. An event that failed is posted again after `POST
/events/<id>/replay`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, dag, get_current_context, task

from airflow_ext.defaults import SHORT_RUN_DEFAULTS, schedule_of
from airflow_ext.ids import EVENT_DELIVERY, EVENT_QUEUE_ASSET, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure
from airflow_ext.triggers.sqs_wakeup import EventQueueTrigger

WAKE = Asset(EVENT_QUEUE_ASSET, watchers=[AssetWatcher(name=EVENT_QUEUE_ASSET, trigger=EventQueueTrigger())])


@dag(
    dag_id=EVENT_DELIVERY,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(schedule_of(EVENT_DELIVERY, default="* * * * *"), timezone="UTC"),
        assets=[WAKE],
    ),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=8,
    dagrun_timeout=timedelta(minutes=30),
    default_args=SHORT_RUN_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    doc_md=__doc__,
    tags=[Tag.EVENTS, Tag.EVERY_MINUTE],
)
def event_delivery() -> None:
    """Find what is due, post it, tell what could not be delivered."""

    @task(multiple_outputs=False)
    def select_due() -> list[list[str]]:
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.select_due(get_current_context())

    # Beyond the time that a task gives itself (include/delivery/dispatcher.py), and its last posts.
    @task(map_index_template="{{ label }}", multiple_outputs=False, execution_timeout=timedelta(minutes=4))
    def deliver(owners: list[str]) -> dict[str, Any]:
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.deliver(get_current_context(), owners)

    @task(multiple_outputs=False, trigger_rule="all_done", outlets=[Asset(EVENT_DELIVERY)])
    def summarize() -> dict[str, Any]:
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.summarize(get_current_context())

    deliver.expand(owners=select_due()) >> summarize()


event_delivery()
