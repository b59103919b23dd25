"""# Call details: watch for files

Waits for files under `incoming/` of the ingest bucket, and starts one run of `call_details_ingest` for each.

**What.** `claim_files` claims each file version (bucket, key, ETag) in the ledger and moves it to `processing/`,
`start_ingest` starts its run and is named by its key. Then it waits again at once: a long file never delays the next.
Ten or more files of at most 64 MB that wait together share a run: up to 500 files and 256 MB.

**Schedule.** Continuous, one round at a time. A round ends when files were dropped, or after ten minutes without any;
it then starts the runs of claims that have none.

**Reads.** `incoming/` of the ingest bucket (setting `incoming_prefix`), without the names of uploads under way
(`ignored_names`); the ledger table; the Variable `settings`.

**Writes.** Claims in the ledger; `processing/<etag>/<name>`; under `plans/`, which expires, the runs of a round and the
files of a shared run. A file that was ingested before (same bytes, same key) is deleted from `incoming/` and gets no
second run; the bucket keeps its version for a month. If that run failed, or could not read the file, it is started
again and continues after the acknowledged batches.

**When it fails.**

- A file that cannot be claimed or moved does not block the others: it stays under `incoming/` and is tried again. An
  alert with the reason goes to SNS and Slack after five minutes, and then once a day.
- If there are only such files, the round is retried for some minutes, as a pause, and succeeds.
- A file whose run is active stays until that run has ended; this causes no alert.
- A round takes about 500 files; the next round follows at once.
- Runbook: [files that stay](docs/RUNBOOK.md#files-that-stay), [no run](docs/RUNBOOK.md#call-details-watch-no-run).

**Run again.** Never needed: the next round takes what this one has left. To ingest a file whose run failed, clear that
run of `call_details_ingest`, trigger it with the file's key, or deliver the file again.

**Paused.** To switch the pipeline off, pause the DAG and mark the waiting round as a success. A paused round neither
continues nor ends, and a round that is older than three hours fails, with an alert, when the DAG is switched on again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, get_current_context, task

from airflow_ext.defaults import WATCH_DEFAULTS, common
from airflow_ext.ids import CALL_DETAILS_WATCH, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure
from airflow_ext.operators.call_details_watch import DroppedFileSensor, StartRunOperator


@dag(
    dag_id=CALL_DETAILS_WATCH,
    schedule="@continuous",
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    default_args=WATCH_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, "continuous"),
    tags=[Tag.CALL_DETAILS, Tag.CONTINUOUS],
)
def call_details_watch() -> None:
    """Wait for files, take them in, start a run for each."""
    wait_for_file = DroppedFileSensor(
        task_id="wait_for_file",
        poke_interval=2,
        timeout=600,
        doc_md="Wait until files are dropped, for ten minutes at most.",
    )

    @task
    def claim_files() -> list[int]:
        """Claim each dropped file and move it to `processing/`; report those that cannot be taken."""
        from airflow_ext.tasks import call_details_watch as tasks

        return tasks.claim_files(get_current_context())

    claimed = claim_files()
    start_ingest = StartRunOperator.partial(
        task_id="start_ingest",
        map_index_template="{{ task.label }}",
        doc_md="Start the run of `call_details_ingest` for a file, or for small files that share one.",
    ).expand(index=claimed)

    wait_for_file >> claimed >> start_ingest


call_details_watch()
