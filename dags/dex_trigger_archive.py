"""# DEX trigger archive

Keeps, for every client and every day, exactly what the DEX API answered to the trigger request, so that an investigator
can show it later.

**What.**

- `list_clients` reads the clients and logs in once; `archive_client` is one mapped task per client, named by its id and
  name; `summarize` accounts for all and writes the run's note.
- Above the setting `max_mapped_clients` (500), clients share tasks; each still fails and is retried on its own.

**Schedule.**

- Daily at 20:30 New York time, when the day's trigger data is complete; without catch-up. The cron expression (five
  fields) is the Airflow configuration option `pipelines.dex_trigger_archive_schedule`, the zone
  `pipelines.business_timezone`.
- The day that is archived, the *trigger date*, is the param `trigger_date`; else the run's date in the business zone
  plus the setting `trigger_date_offset_days`. A run's id begins with its time in that zone.
- A day in the future is refused, as are a `trigger_date` in a backfill, an unknown client, and a key in the run's
  configuration that is no param: such a run fails at once, archives nothing, and sends no alert if a person started it,
  who sees why.

**Reads.** Clients from SQL Server (connection `dex_db`; query in `include/sql/dex_clients.sql`); the DEX API
(connection `dex_api`, OAuth2 client credentials); the Variable `settings`.

**Writes.** In the archive bucket:

- `trigger/<clientid>/<clientid>_trigger_<yyyymmdd>.json`, byte for byte as received;
- `manifests/trigger/<yyyymmdd>/<run id>.json`, a line for each client of the run; the day's
  `manifests/trigger/<yyyymmdd>.json`, merged over all its runs;
- one entry of the ledger, `ledger/trigger/<number>.json`, which proves them (docs/EVIDENCE.md);
- working files under `runs/`, which expire.

It updates the asset `dex_trigger_archive` when every client is archived.

**When it fails.**

- Time-outs, lost connections, 408, 425, 429 and 5xx are retried with growing delays, and `Retry-After` is honoured.
- Any other status, and a body that is not JSON, fails that client at once. The other clients go on.
- `summarize` then fails the run and sends one digest to SNS and Slack: which clients, why, and a link to each log.
  If it cannot reach what it needs, it is tried again for half an hour and more.
- A run that selects no client sends a warning and succeeds.
- Runbook: [a failed run](docs/RUNBOOK.md#dex-trigger-archive-failed-run),
  [no run](docs/RUNBOOK.md#dex-trigger-archive-no-run).

**Run again.** Any task, run or range, any number of times: an answer that is archived already is not written again, a
changed answer becomes a new version, and an empty answer replaces a non-empty one only with the param `force`.

- [A day](docs/RUNBOOK.md#a-day), for some clients: trigger with `trigger_date` and `client_ids`.
- [A range](docs/RUNBOOK.md#a-range-of-days): `airflow backfill create --dag-id dex_trigger_archive --from-date
  2026-03-01 --to-date 2026-03-07`, both days included; with `--reprocess-behavior completed` also the days that have a
  run. In the UI's dialog, params such as `client_ids` count only if *Override parameters on existing runs* is ticked,
  and *Unpause* is ticked already.

**Paused.** No run and no task is started; tasks that run end. A run in its middle continues when the DAG is unpaused.
If it is older than six hours then, Airflow ends it, with an alert: clear it, and it continues. Of the missed days the
latest is archived, if the DAG ran within the last week; the others need a backfill.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, Param, dag, get_current_context, task

from airflow_ext.defaults import ACCOUNTING, TASK_DEFAULTS, common, schedule_of, schedule_text, schedule_timezone
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure
from airflow_ext.timetables import BusinessDayTimetable

if TYPE_CHECKING:
    from airflow_ext.tasks.dex_trigger_archive import Work

SCHEDULE = schedule_of(DEX_TRIGGER_ARCHIVE, default="30 20 * * *")

PARAMS = {
    "trigger_date": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Trigger date",
        description="The day to archive, YYYY-MM-DD. Empty: the run's own day in the business time zone.",
    ),
    "client_ids": Param(
        None,
        type=["null", "array"],
        # As text too: the trigger form sends a list as texts, one for each line, also for the last one, which is empty.
        items={"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\s*(-?[0-9]{1,19})?\s*$"}]},
        minItems=1,
        title="Client ids",
        description="Archive only these clients, one id per line. Empty: every client that the database selects.",
    ),
    "force": Param(
        False,
        type="boolean",
        title="Force",
        description="Let an empty answer ([] or {}) replace a non-empty archive of the same client and day.",
    ),
}


@dag(
    dag_id=DEX_TRIGGER_ARCHIVE,
    schedule=BusinessDayTimetable(SCHEDULE, timezone=schedule_timezone()),
    max_active_runs=3,
    dagrun_timeout=timedelta(hours=6),
    params=PARAMS,
    default_args=TASK_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, schedule_text(SCHEDULE, schedule_timezone())),
    tags=[Tag.ARCHIVE, Tag.DAILY, Tag.DEX],
)
def dex_trigger_archive() -> None:
    """List the clients, archive each, account for all."""

    @task
    def list_clients() -> list[Work]:
        """Fix the trigger date, read the clients, log in once, and write the run's plan."""
        from airflow_ext.tasks import dex_trigger_archive as tasks

        return tasks.list_clients(get_current_context())

    @task(
        map_index_template="{{ label }}",
        do_xcom_push=False,
        max_active_tis_per_dagrun=16,
        doc_md="Fetch and store the answer of a client, or of each in a group; a retry repeats only what failed.",
    )
    def archive_client(work: Work) -> None:
        from airflow_ext.tasks import dex_trigger_archive as tasks

        tasks.archive_client(get_current_context(), work)

    @task(multiple_outputs=False, do_xcom_push=False, outlets=[Asset(DEX_TRIGGER_ARCHIVE)], **ACCOUNTING)
    def summarize() -> dict[str, Any]:
        """Account for every client in manifest and ledger; if one failed, send one alert and fail the run."""
        from airflow_ext.tasks import dex_trigger_archive as tasks

        return tasks.summarize(get_current_context())

    archive_client.expand(work=list_clients()) >> summarize()


dex_trigger_archive()
