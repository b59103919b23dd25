from typing import Any

import pytest

from local.demo.auction import MOST_RUNS, run_until_both_seen

ACCEPTED, REJECTED = "accepted", "rejected"


class Airflow:
    """Has one run that the schedule started; each further one is started by hand."""

    def __init__(self, *results: list[str]) -> None:
        self._results = results
        self._run_ids = ["scheduled__0"]

    def runs(self, _: str) -> list[dict[str, Any]]:
        return [{"dag_run_id": run_id} for run_id in self._run_ids]

    def trigger(self, _: str) -> str:
        self._run_ids.append(f"manual__{len(self._run_ids)}")
        return self._run_ids[-1]

    def wait(self, _: str, run_id: str, **__: Any) -> dict[str, Any]:
        return {"dag_run_id": run_id, "state": "success"}

    def xcom(self, _: str, run_id: str, __: str) -> dict[str, Any]:
        results = self._results[min(self._run_ids.index(run_id), len(self._results) - 1)]
        return {
            name: [each for each in results if each == kind]
            for name, kind in (("keys", ACCEPTED), ("not_accepted", REJECTED))
        }


@pytest.mark.parametrize(
    ("results", "runs"),
    [
        ([[ACCEPTED, REJECTED]], ["scheduled__0"]),
        ([[ACCEPTED], [], [REJECTED], [ACCEPTED]], ["scheduled__0", "manual__1", "manual__2"]),
        ([[ACCEPTED]], ["scheduled__0", *(f"manual__{number}" for number in range(1, MOST_RUNS))]),
    ],
    ids=["the schedule's own run is enough", "until both were seen", "their number is bounded"],
)
def test_runs_are_added_until_both_kinds_of_orders_were_seen(results: list[list[str]], runs: list[str]) -> None:
    found = run_until_both_seen(Airflow(*results))
    assert [summary["run_id"] for summary in found] == runs
