"""# Event delivery

Posts the events of the events API to their owners' webhooks, signed, in order of creation.

**What.** `select_due` finds the owners whose events are due, `deliver` posts the events of a share of them and is named
by its owner, `summarize` counts and alerts.

**Schedule.** Whenever the events API announces a new event (queue `event-delivery-<env>`), and every minute, which also
finds the events whose next attempt is due. Up to eight runs at a time: while one waits for slow receivers, another
delivers to the others. No two runs post events of the same owner at once.

**Reads.** The tables `events-<env>`, which alone decides what is due, and `subscriptions-<env>`; the Variable
`settings`: `max_delivery_attempts` (11), `delivery_tasks` (4), `delivery_concurrency` (96 posts at once in each task).

**Writes.**

- Posts to webhooks: to public addresses over https only, without redirects, within ten seconds.
- The result of each post into the table of events. For an event that failed after its last attempt, a message in the
  queue `event-delivery-dlq-<env>`. A webhook that answers 410 is turned off.

**When it fails.**

- A post that is not answered with 2xx is repeated after 1 s, 2 s, 4 s and so on, up to an hour; `Retry-After` is
  honoured, up to a day. From the fourth time on, or if the receiver took more than three seconds to refuse it, the run
  of the next minute does it, as it does for a receiver that stays slow for 20 seconds.
- The owner's later events wait; those of other owners do not.
- After the last attempt the event is `failed`, and an alert names it.
- A task that dies leaves its events to a later run, when their leases have ended, after a minute: receivers may get an
  event twice, with the same `Webhook-Id`.
- The run fails if it could not read what is due, or if a task failed. Nothing is lost by that.
- Runbook: [a failed run](docs/RUNBOOK.md#event-delivery-failed-run),
  [dead letters](docs/RUNBOOK.md#event-delivery-dead-letters), [webhooks](docs/RUNBOOK.md#webhooks).

**Run again.** Never needed: the next run takes what is due. A failed event is posted again after
`POST /events/<id>/replay`.

**Paused.** No run and no task is started; tasks that run end. Events wait and nothing is lost. A run in its middle
continues when the DAG is unpaused. If it is older than 30 minutes then, Airflow ends it, with an alert; the next run
takes what is due.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, dag, get_current_context, task

from airflow_ext.defaults import SHORT_RUN_DEFAULTS, common, schedule_of, schedule_text
from airflow_ext.ids import EVENT_DELIVERY, EVENT_QUEUE_ASSET, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure
from airflow_ext.triggers.sqs_wakeup import EventQueueTrigger

SCHEDULE = schedule_of(EVENT_DELIVERY, default="* * * * *")

WAKE = Asset(EVENT_QUEUE_ASSET, watchers=[AssetWatcher(name=EVENT_QUEUE_ASSET, trigger=EventQueueTrigger())])


@dag(
    dag_id=EVENT_DELIVERY,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable(SCHEDULE, timezone="UTC"), assets=[WAKE]),
    max_active_runs=8,
    dagrun_timeout=timedelta(minutes=30),
    default_args=SHORT_RUN_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, f"for each new event, and {schedule_text(SCHEDULE, 'UTC')}"),
    tags=[Tag.EVENTS, Tag.EVERY_MINUTE],
)
def event_delivery() -> None:
    """Find what is due, post it, tell what could not be delivered."""

    @task(multiple_outputs=False)
    def select_due() -> list[list[str]]:
        """Find the owners with due events and a webhook, and divide them among tasks."""
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.select_due(get_current_context())

    # Beyond the time that a task gives itself (include/delivery/dispatcher.py), and its last posts.
    @task(
        map_index_template="{{ label }}",
        multiple_outputs=False,
        execution_timeout=timedelta(minutes=4),
        doc_md="Post the due events of a share of the owners, each owner's in order.",
    )
    def deliver(owners: list[str]) -> dict[str, Any]:
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.deliver(get_current_context(), owners)

    @task(multiple_outputs=False, do_xcom_push=False, trigger_rule="all_done", outlets=[Asset(EVENT_DELIVERY)])
    def summarize() -> dict[str, Any]:
        """Count what was delivered, and alert events that failed for good."""
        from airflow_ext.tasks import event_delivery as tasks

        return tasks.summarize(get_current_context())

    deliver.expand(owners=select_due()) >> summarize()


event_delivery()
