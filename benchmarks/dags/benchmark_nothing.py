"""An empty DAG of the shape of dex_trigger_archive (list, map, summarize): what Airflow itself costs."""

from __future__ import annotations

import time

from airflow.sdk import Param, dag, get_current_context, task


@dag(
    dag_id="benchmark_nothing",
    schedule=None,
    params={
        "tasks": Param(1, type="integer", minimum=1, description="mapped tasks"),
        "seconds": Param(0, type="number", minimum=0, description="how long each of them stays, idle"),
    },
)
def benchmark_nothing() -> None:
    @task
    def list_items() -> list[int]:
        return list(range(get_current_context()["params"]["tasks"]))

    @task(max_active_tis_per_dagrun=16)
    def do_nothing(item: int) -> int:
        time.sleep(get_current_context()["params"]["seconds"])
        return item

    @task(trigger_rule="all_done")
    def finish() -> None:
        return None

    do_nothing.expand(item=list_items()) >> finish()


benchmark_nothing()
