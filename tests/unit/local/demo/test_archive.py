from typing import Any

from local.demo.archive import prove, run_alone
from tests.worlds.evidence import three_days
from tests.worlds.s3 import VersionedBucket

KEY = "trigger/2/2_trigger_20260302.json"


class Bucket(VersionedBucket):
    """A bucket from which a version can be deleted for good."""

    def delete_object(self, **request: str) -> None:
        versions = self.objects[request["Key"]]
        self.objects[request["Key"]] = [version for version in versions if version.id != request["VersionId"]]


def test_evidence_is_proven_and_a_forgery_is_found_and_taken_away() -> None:
    s3 = Bucket()
    three_days(s3)
    before = s3.bodies(KEY)
    shown = prove(s3, s3.bucket, KEY)
    assert len(shown) == 2
    assert all(shown.values())
    assert s3.bodies(KEY) == before


def test_evidence_that_is_not_proven_is_shown_as_such() -> None:
    s3 = Bucket()
    three_days(s3)
    del s3.objects["trigger/1/1_trigger_20260301.json"]
    assert not any(prove(s3, s3.bucket, KEY).values())


class AirflowInTheHourOfTheRun:
    """The schedule starts a run as the DAG is switched on, which ends after the one that was asked for."""

    def __init__(self) -> None:
        self.under_way: list[str] = []
        self.cut_off: list[str] = []

    def unpause(self, _: str, *, paused: bool = False) -> None:
        if paused:
            self.cut_off += self.under_way
        else:
            self.under_way = ["scheduled__0"]

    def trigger(self, _: str) -> str:
        return "manual__1"

    def wait(self, _: str, run_id: str, **__: Any) -> dict[str, Any]:
        return {"dag_run_id": run_id, "state": "failed"}

    def runs(self, _: str) -> list[dict[str, Any]]:
        found = [{"dag_run_id": run_id, "state": "running"} for run_id in self.under_way]
        self.under_way = []
        return found


def test_run_of_the_schedule_has_ended_before_anything_is_proven() -> None:
    airflow = AirflowInTheHourOfTheRun()
    assert run_alone(airflow)["dag_run_id"] == "manual__1"
    assert (airflow.under_way, airflow.cut_off) == ([], [])
