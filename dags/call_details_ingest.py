"""# Call details: ingest a file

Posts the records of one file version to the call-details API in batches, and accounts for every one.

**What.** The run of a file shows what happened to it. `plan` claims the version and cuts it into chunks of whole
batches, `post_chunk` posts one chunk and is named by its records, `reconcile` writes the receipt and the run's note.
Many small files may share a run: a mapped `post_chunk` posts many of them, and the list under the run's `key` names
all. Each has its own receipt (`receipts/<key>.<etag>.json`), which names its run.

**Schedule.** None: `call_details_watch` starts one run for each file version, or for many small ones. Several
runs go on at a time.

**Reads.**

- The file, by ranges: text in UTF-8, or UTF-16 with its byte order mark, either also as gzip, whatever the suffix.
- The API (connection `call_details_api`, keys in SSM Parameter Store); the ledger table.
- The Variable `settings`: `max_records_per_batch` (500), `max_retries` (3 attempts), `max_concurrent_calls` (50, over
  all files and replays).

**Writes.**

- Batches to the API, each under its own idempotency key.
- In the ingest bucket `receipts/<key>.<etag>.json`, the file's next location
  (`processed/<yyyy>/<mm>/<dd>/<etag>/<name>`, or `failed/...` if it cannot be read), `dead-letter/<key>/<batch>.json`
  with a message in the queue `call-details-dlq-<env>`, and `plans/`, which expires.
- The asset `call_details_ingest`, when every record was accepted or is a dead letter.

**When it fails.**

- Time-outs, lost connections, 408, 425, 429 and 5xx are retried, and `Retry-After` is honoured. A batch that is still
  not accepted becomes a dead letter; the others go on.
- After ten such batches in a row the API is taken for unavailable: the task is retried later, up to five times within
  some twelve minutes. What the last try does not get accepted becomes dead letters too.
- If the login fails, or the API asks to wait for more than a minute, in every try, nothing becomes a dead letter, and
  the run fails with one alert; clear it when the API is back.
- A task that dies is retried and continues after its last acknowledged batch.
- If the API asks to wait for more than a minute, the task waits that long and then continues. As long as batches are
  accepted in between, that costs it no try, so a small quota is waited for as often as it takes, within the 24 hours
  of a run. Then Airflow ends it, with an alert; clear it, and it continues.
- A file that is no text (zip, bzip2, zstd, xz, parquet, NUL bytes) is never posted: it goes to `failed/`.
- One alert for each file goes to SNS and Slack: a warning if there are dead letters or bytes that are not valid UTF-8,
  an error if the file cannot be read or planned, or if the receipt does not add up. After an error the run fails.
- In a shared run such a file costs only itself, and the run fails when the others are done. If none could be planned,
  one alert says so for all.
- Runbook: [a failed run](docs/RUNBOOK.md#call-details-ingest-failed-run),
  [dead letters](docs/RUNBOOK.md#call-details-dead-letters).

**Run again.** Clear a failed run, or deliver its file again: acknowledged batches are not posted again.

- A file that could not be read is tried again when it is delivered again, or triggered by hand.
- To ingest [a file](docs/RUNBOOK.md#a-file-of-call-details) by hand, trigger with its `key`. If it was ingested before,
  the run posts nothing and says so, unless `force` is given: then every batch is posted again, with the same body and
  idempotency key. Dead letters: see `call_details_replay`.
- A run by hand for a file that is not there, or that another run has, fails without an alert: who started it sees why.

**Paused.** No run and no task is started; tasks that run end. Files that are dropped meanwhile are claimed, and their
runs wait. A run in its middle continues when the DAG is unpaused. If it is older than 24 hours then, Airflow ends it,
with an alert: clear it, and it continues after the last acknowledged batch.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, dag, get_current_context, task

from airflow_ext.defaults import ACCOUNTING, TASK_DEFAULTS, common
from airflow_ext.ids import CALL_DETAILS_INGEST, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure

A_FILE = r"^[\s\S]*[^/](?![\s\S])"
"""A key of a file, which does not end as a folder's does. ``$`` would let a line break follow in Python."""

PARAMS = {
    "bucket": Param(
        None,
        type=["null", "string"],
        title="Bucket",
        description="Bucket of the file. Empty: the ingest bucket of the settings.",
    ),
    # Without a default, so that the form cannot be sent before a key is given.
    "key": Param(
        type="string",
        pattern=A_FILE,
        examples=["incoming/"],
        title="Key",
        description="Key under which the file was dropped (incoming/...), or that it was moved to; or that of a list "
        "(plans/shared/...), for all its files.",
    ),
    "etag": Param(
        None, type=["null", "string"], title="ETag", description="Which version of a dropped file. Empty: the newest."
    ),
    "force": Param(
        False,
        type="boolean",
        title="Force",
        description="Post a file again that was ingested before, under the same idempotency keys.",
    ),
}


@dag(
    dag_id=CALL_DETAILS_INGEST,
    schedule=None,
    max_active_runs=8,
    dagrun_timeout=timedelta(hours=24),
    params=PARAMS,
    default_args=TASK_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, "by call_details_watch, for each file"),
    tags=[Tag.CALL_DETAILS, Tag.ON_REQUEST],
)
def call_details_ingest() -> None:
    """Plan the file, post its chunks, account for all."""

    @task
    def plan() -> list[int]:
        """Claim the file and cut it into chunks of whole batches."""
        from airflow_ext.tasks import call_details_ingest as tasks

        return tasks.plan(get_current_context())

    # As many at a time as share the calls: more would hold workers and wait. See include/call_details/poster.py.
    @task(
        map_index_template="{{ label }}",
        multiple_outputs=False,
        max_active_tis_per_dagrun=4,
        execution_timeout=timedelta(hours=3),
        doc_md="Post the batches of a chunk, or of many small files; a retry goes on after the last acknowledged one.",
    )
    def post_chunk(index: int) -> dict[str, int]:
        from airflow_ext.tasks import call_details_ingest as tasks

        return tasks.post_chunk(get_current_context(), index)

    @task(multiple_outputs=False, do_xcom_push=False, outlets=[Asset(CALL_DETAILS_INGEST)], **ACCOUNTING)
    def reconcile() -> dict[str, Any]:
        """Add up what the API accepted and refused, write the receipt, move the file, and alert."""
        from airflow_ext.tasks import call_details_ingest as tasks

        return tasks.reconcile(get_current_context())

    post_chunk.expand(index=plan()) >> reconcile()


call_details_ingest()
