"""# Call details: replay dead letters

**What.** Takes messages off the queue of dead letters, posts the batch that each points to once more, under the same
idempotency key, and deletes the message after the API has accepted it.

**Schedule.** None: a person starts it, when the API takes again what it refused.

**Reads.** The queue `call-details-dlq-<env>`; `dead-letter/` of the ingest bucket; the API (connection
`call_details_api`); the Variable `settings`.

**Writes.** Batches to the API; deletes messages. The bodies under `dead-letter/` stay, as do the receipts: they tell
what the ingest did.

**When it fails.** What is refused again stays in the queue, as does a message that cannot be read: the run then fails
and tells SNS and Slack how many; its log names each. Such a message is sent anew before the old one is deleted, so that
the 14 days after which SQS drops it begin again. A login, queue or bucket that fails is retried, as is a replay that
the API asks to wait for more than a minute.

**Run again.** As often as you like: a batch that was accepted has no message any more, and should one come twice, the
API knows its idempotency key. Try `dry_run` first to see what would be posted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Param, dag, get_current_context, task

from airflow_ext.defaults import TASK_DEFAULTS
from airflow_ext.ids import CALL_DETAILS_REPLAY, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure

PARAMS = {
    "limit": Param(
        1000,
        type="integer",
        minimum=1,
        # Each is kept hidden from others until the end, which takes SQS a call for every ten, all the time.
        maximum=10_000,
        title="Limit",
        description="How many messages to take at most; run it again for the rest.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Post and delete nothing; the log says what would be posted.",
    ),
}


@dag(
    dag_id=CALL_DETAILS_REPLAY,
    schedule=None,
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=8),
    params=PARAMS,
    default_args=TASK_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    doc_md=__doc__,
    tags=[Tag.CALL_DETAILS, Tag.ON_REQUEST],
)
def call_details_replay() -> None:
    """Post dead letters again."""

    @task(multiple_outputs=False, execution_timeout=timedelta(hours=6))
    def replay() -> dict[str, Any]:
        from airflow_ext.tasks import call_details_replay as tasks

        return tasks.replay(get_current_context())

    replay()


call_details_replay()
