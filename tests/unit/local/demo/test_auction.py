from __future__ import annotations

import hashlib
from typing import Any, cast

from local.clients.airflow import AirflowApi
from local.demo.auction import MOST_RUNS, Auction, run_until_both_seen

ACCEPTED, REJECTED = "accepted", "rejected"


def summary(run_id: str, orders: list[str]) -> dict[str, Any]:
    ids = [hashlib.sha256(f"{run_id}/{index}".encode()).hexdigest() for index in range(len(orders))]
    keys = [f"orders/2026/11/21/order_{id_}.json" for id_, end in zip(ids, orders, strict=True) if end == ACCEPTED]
    return {"total": len(orders), "keys": keys}


class Airflow:
    """Has one run that the schedule started; each further one is started by hand."""

    def __init__(self, *results: list[str]) -> None:
        self._results = results
        self._run_ids = ["scheduled__0"]
        self.triggered = 0

    def runs(self, _: str) -> list[dict[str, Any]]:
        return [{"dag_run_id": run_id} for run_id in self._run_ids]

    def trigger(self, _: str) -> str:
        self.triggered += 1
        self._run_ids.append(f"manual__{self.triggered}")
        return self._run_ids[-1]

    def wait(self, _: str, run_id: str, **__: Any) -> dict[str, Any]:
        return {"dag_run_id": run_id, "state": "success"}

    def ended_tasks(self, _: str, __: str) -> int:
        return 3

    def xcom(self, _: str, run_id: str, __: str) -> dict[str, Any]:
        number = self._run_ids.index(run_id)
        return summary(run_id, self._results[min(number, len(self._results) - 1)])


def auctions(airflow: Airflow) -> list[Auction]:
    return run_until_both_seen(cast(AirflowApi, airflow), lambda done, total: None)


def test_the_rejected_orders_are_those_that_were_not_stored() -> None:
    auction = Auction("a", "success", summary("a", [REJECTED, ACCEPTED, REJECTED]))
    assert sorted(auction.rejected) == [0, 2]
    assert auction.rejected[2] == hashlib.sha256(b"a/2").hexdigest()


def test_the_schedules_own_run_is_enough_if_it_shows_both_kinds() -> None:
    airflow = Airflow([ACCEPTED, REJECTED])
    assert [auction.run_id for auction in auctions(airflow)] == ["scheduled__0"]
    assert airflow.triggered == 0


def test_runs_are_added_until_both_kinds_were_seen() -> None:
    airflow = Airflow([ACCEPTED], [], [REJECTED], [ACCEPTED])
    assert [auction.run_id for auction in auctions(airflow)] == ["scheduled__0", "manual__1", "manual__2"]


def test_their_number_is_bounded() -> None:
    assert len(auctions(Airflow([ACCEPTED]))) == MOST_RUNS
