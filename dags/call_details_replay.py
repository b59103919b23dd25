"""# Call details: replay dead letters

Posts the batches of the queue of dead letters again, and deletes each message that the API then accepts.

**What.** `replay` receives messages, posts the batch that each points to under the same idempotency key, and deletes
the message after the API has accepted the batch.

**Schedule.** None: a person starts it, when the API accepts again what it refused.

**Reads.** The queue `call-details-dlq-<env>`; `dead-letter/` of the ingest bucket; the API (connection
`call_details_api`); the Variable `settings`.

**Writes.** Batches to the API; deletes messages. The bodies under `dead-letter/` and the receipts stay: they document
the ingest.

**When it fails.**

- A batch that is refused again stays in the queue, as does a message that cannot be read. The run then fails and alerts
  SNS and Slack with their number; its log names each.
- A new message is sent before the old one is deleted, so that the 14 days after which SQS deletes it begin again.
- A failed login, queue or bucket is retried, as is a replay that the API asks to wait for more than a minute. What the
  tries before have posted counts towards the limit. What one that was killed had received is hidden for up to two
  minutes; the next one waits for it.
- Runbook: [dead letters](docs/RUNBOOK.md#call-details-dead-letters).

**Run again.** Any number of times: an accepted batch has no message any more, and if a batch comes twice, the API knows
its idempotency key. With `dead_letters` only these are posted; those that are not in the queue any more are counted in
the run's note. Use `dry_run` first to see what would be posted; see
[dead letters](docs/RUNBOOK.md#dead-letters).

**Paused.** No run is started; a replay under way ends. One that was triggered waits. If a run is older than eight hours
when the DAG is unpaused, Airflow ends it, with an alert; its messages are in the queue again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from airflow_ext.defaults import TASK_DEFAULTS, common
from airflow_ext.ids import CALL_DETAILS_REPLAY, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure

PARAMS = {
    "dead_letters": Param(
        None,
        type=["null", "array"],
        items={"type": "string"},
        minItems=1,
        maxItems=1000,
        title="Dead letters",
        description="Only these, one per line: the key of the body (dead-letter/...), or the idempotency key, which "
        "tells two versions of a file apart. Empty: all.",
    ),
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
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=8),
    params=PARAMS,
    default_args=TASK_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, "none, a person starts it"),
    tags=[Tag.CALL_DETAILS, Tag.ON_REQUEST],
)
def call_details_replay() -> None:
    """Post dead letters again."""

    @task(multiple_outputs=False, do_xcom_push=False, execution_timeout=timedelta(hours=6))
    def replay() -> dict[str, Any]:
        """Post each dead letter again, and delete its message once the API has accepted it."""
        from airflow_ext.tasks import call_details_replay as tasks

        return tasks.replay(get_current_context())

    replay()


call_details_replay()
