"""# Energy auction

Waits for the results of the auction (Lambda A), gives every order in them to Lambda B, which stores the accepted ones,
and accounts for all.

**What.**

- One mapped task per order, named by its index and the beginning of its id. Above the setting `max_mapped_orders`
  (100), orders share tasks; each order keeps its own outcome, alert and retry.
- When the orders are found while the run waits, the triggerer gives them to Lambda B at once, up to 40 at a time, and
  `process_order` takes over its outcomes: the log of the first attempt is then that of `wait_for_results`. What the
  triggerer does not settle within 30 s, or leaves behind when it dies, `process_order` does.

**Schedule.** Every five minutes (UTC), without catch-up. One run at a time; every run ends within five minutes. The
cron expression is the Airflow configuration option `pipelines.energy_auction_schedule`.

**Reads.** Lambda A: `{"results": true, "orders": [...]}`, polled after 2 s and then every 3 s, until the setting
`auction_results_timeout` (240 s from the start of the run) is over. No worker is held meanwhile. The Variable
`settings`.

**Writes.** In the bucket of order results: `orders/<yyyy>/<mm>/<dd>/order_<order id>.json` (by Lambda B),
`summaries/<yyyy>/<mm>/<dd>/<run id>.json`, and working files under `runs/`, which expire. The day is the UTC day of
the run. Updates the asset `energy_auction` when every order was accepted or rejected.

**When it fails.**

- No results in time: the run is skipped and says so. A malformed answer of Lambda A fails at once.
- A rejected order fails its task, not the run. The setting `rejection_errors` says which errors of Lambda B reject.
- Throttles, time-outs and errors of Lambda B are retried with growing delays, three times, within the run's time: no
  order begins later than 255 s after the start, and no answer is accepted after 270 s. An order that is then neither
  accepted nor rejected fails the run.
- Each order that was not accepted causes one alert to SNS and Slack: order, reason, link to the log. It may be sent
  twice if the first delivery was not confirmed in time. Alerts that do not fit into the run's time (Slack accepts about
  one message per second) are sent by later runs, 100 a channel; clearing `summarize` sends the others. The metric
  `UndeliveredAlerts` counts both. Alerts never change the result of a run.
- A run that ends without a summary (lost workers, its time was up, `wait_for_results` failed after it had found orders)
  is finished by the next run: orders that are not settled go to Lambda B once more, rejected and failed orders are
  alerted, the summary is written. The next run keeps its own result.
- Runbook: [a failed run](docs/RUNBOOK.md#energy-auction-failed-run),
  [a rejected order](docs/RUNBOOK.md#a-rejected-order),
  [alerts that were not delivered](docs/RUNBOOK.md#energy-auction-undelivered-alerts).

**Run again.** Clear any task or run within 30 days, any number of times: Lambda A's orders are saved and not requested
again, no order is stored twice, no delivered alert is sent again.

- A run that had ended gets its five minutes again. A run that found no results polls again when it is cleared.
- After 30 days the orders of a run have expired; it says so, and only a new run helps.
- To try other functions, trigger with `function_a` and `function_b`; what they must answer is in docs/FUNCTIONS.md. If
  one of them cannot be invoked, the run fails before any order is given, and sends no alert.

**Paused.** No run and no task is started; tasks that run end, and a wait for results ends at its time. Missed slots are
not repeated. A run in its middle is usually older than 290 s when the DAG is unpaused: then Airflow ends it, with an
alert, and the next run finishes it. If it is of before yesterday (UTC), clear it: then its orders are processed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, dag, get_current_context, task

from airflow_ext.defaults import SHORT_RUN_DEFAULTS, common, schedule_of, schedule_text
from airflow_ext.ids import ENERGY_AUCTION, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure
from airflow_ext.operators.energy_auction import InvokeOrdersOperator, LambdaResultSensor

FUNCTION_NAME = r"^[A-Za-z0-9_:.$-]{1,170}(?![\s\S])"
"""Its end is where nothing follows: ``$`` lets a line break follow in Python, and browsers have no other."""

WAIT_LIMIT = timedelta(seconds=255)
"""Beyond the longest wait that the settings allow; later results are too late (include/auction/deadlines.py)."""

SCHEDULE = schedule_of(ENERGY_AUCTION, default="*/5 * * * *")

PARAMS = {
    "function_a": Param(
        "auction-results",
        type="string",
        pattern=FUNCTION_NAME,
        title="Lambda A",
        description="The function that gives the results: name, alias or ARN.",
    ),
    "function_b": Param(
        "auction-order",
        type="string",
        pattern=FUNCTION_NAME,
        title="Lambda B",
        description="The function that takes an order: name, alias or ARN.",
    ),
}


@dag(
    dag_id=ENERGY_AUCTION,
    schedule=SCHEDULE,
    max_active_runs=1,
    dagrun_timeout=timedelta(seconds=290),
    params=PARAMS,
    default_args=SHORT_RUN_DEFAULTS,
    on_failure_callback=alert_unreported_failure,
    **common(__doc__, schedule_text(SCHEDULE, "UTC")),
    tags=[Tag.AUCTION, Tag.FIVE_MINUTES],
)
def energy_auction() -> None:
    """Wait for results, process each order, account for all."""
    wait_for_results = LambdaResultSensor(
        task_id="wait_for_results",
        function_name="{{ params.function_a }}",
        order_function="{{ params.function_b }}",
        timeout=WAIT_LIMIT,
        doc_md="Poll Lambda A until it has results, save the orders, and give each to Lambda B at once.",
    )
    process_order = InvokeOrdersOperator.partial(
        task_id="process_order",
        map_index_template="{{ task.order_name(run_id) }}",
        do_xcom_push=False,
        doc_md="Give an order to Lambda B; the task fails if the order was rejected, and the run goes on.",
    ).expand(work=wait_for_results.output)

    @task(multiple_outputs=False, do_xcom_push=False, trigger_rule="all_done", outlets=[Asset(ENERGY_AUCTION)])
    def summarize() -> dict[str, Any]:
        """Account for every order, alert each that was not accepted, and finish a run that was cut off."""
        from airflow_ext.tasks import energy_auction as tasks

        return tasks.summarize(get_current_context())

    process_order >> summarize()


energy_auction()
