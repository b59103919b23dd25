"""Writes the pictures in README.md, on the local stack that runs: a run of the archive, and the operations page.

For the latter the stack is to be filled: ``make up SAMPLE=month``. Pictures of all its views go to ``.local/pictures``.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from local.clients import AirflowApi  # noqa: E402 - it is found by the line above
from local.demo.run import pictures  # noqa: E402
from local.processes.layout import DEFAULT_STATE_DIRECTORY  # noqa: E402
from local.stack.description import Stack  # noqa: E402
from tests.worlds.browser import Window, running_browser  # noqa: E402

DAG_ID = "dex_trigger_archive"
CLIENTS = [1000, 1021, 1035, 1056, 1070, 1091]
"""Of the sample database; the last one's answer is broken there."""

IN_README = ("evidence", "orders")


def main() -> None:
    """Run the archive for some clients, take the picture of the run, and those of the operations page."""
    stack = Stack.read(DEFAULT_STATE_DIRECTORY)
    with AirflowApi(stack) as airflow:
        airflow.unpause(DAG_ID)
        run_id = airflow.trigger(DAG_ID, conf={"trigger_date": "2026-03-02", "client_ids": CLIENTS})
        airflow.wait(DAG_ID, run_id, timeout=120)
    with running_browser() as browser, Window(browser, stack.airflow_url) as opened:
        page = opened.open(
            f"/dags/{DAG_ID}/runs/{quote(run_id)}",
            timezone_id="America/New_York",
            viewport={"width": 1280, "height": 720},
        )
        page.get_by_text("1091 Rhine Peak").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=ROOT / "docs" / "ui.png")
    folder = DEFAULT_STATE_DIRECTORY / "pictures"
    operations(stack.airflow_url, folder)
    for view in IN_README:
        shutil.copyfile(folder / f"{view}.png", ROOT / "docs" / f"operations_{view}.png")


def operations(url: str, folder: Path) -> None:
    """Take a picture of each view of the operations page, and of the card on Airflow's home."""
    # Of the sample month: a day on which a client's answer changed, and the last whole day.
    changed, day = (datetime.now(UTC).date() - timedelta(days=back) for back in (4, 1))
    views = {
        "evidence": f"/plugin/operations/evidence?client=1001&day={changed}",
        "days": f"/plugin/operations/days?day={day}",
        "files": "/plugin/operations/files",
        "orders": f"/plugin/operations/orders?day={day}",
        "events": "/plugin/operations/events?owner=globex&status=failed",
        "tonight": "/",
    }
    sys.stdout.write("\n".join([*pictures(url, views, folder), ""]))


if __name__ == "__main__":
    main()
