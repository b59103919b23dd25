"""Writes docs/ui.png, the picture in README.md: a run of the archive in Airflow's UI, on the local stack that runs."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from local.clients.airflow import AirflowApi  # noqa: E402 - it is found by the line above
from local.processes.layout import DEFAULT_STATE_DIRECTORY  # noqa: E402
from local.stack.description import Stack  # noqa: E402
from tests.worlds.browser import window  # noqa: E402

DAG_ID = "dex_trigger_archive"
CLIENTS = [1000, 1021, 1035, 1056, 1070, 1091]
"""Of the sample database; the last one's answer is broken there."""


def main() -> None:
    """Run the archive for some clients, and take the picture of the run."""
    stack = Stack.read(DEFAULT_STATE_DIRECTORY)
    with AirflowApi(stack) as airflow:
        airflow.unpause(DAG_ID)
        run_id = airflow.trigger(DAG_ID, conf={"trigger_date": "2026-03-02", "client_ids": CLIENTS})
        airflow.wait(DAG_ID, run_id, timeout=120)
    with window(stack.airflow_url) as opened:
        page = opened.open(
            f"/dags/{DAG_ID}/runs/{quote(run_id)}",
            timezone_id="America/New_York",
            viewport={"width": 1280, "height": 720},
        )
        page.get_by_text("1091 Rhine Peak").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=ROOT / "docs" / "ui.png")


if __name__ == "__main__":
    main()
