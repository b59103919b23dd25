import json
from datetime import date
from threading import Barrier
from typing import Any

import pytest

from include.archive.ledger import Ledger, SavedManifest
from include.archive.manifests import Manifests, merged, record_run
from tests.worlds.s3 import FakeS3, s3_error

DAY = date(2026, 3, 8)
KEY = "manifests/trigger/20260308.json"
ARCHIVED, FAILED = "archived", "failed"


def run(run_id: str, **outcomes: str) -> dict[str, Any]:
    """A run's manifest; outcomes by ``c<client id>``."""
    clients = {int(name[1:]): outcome for name, outcome in outcomes.items()}
    return {
        "trigger_date": DAY.isoformat(),
        "run_id": run_id,
        "total_clients": len(clients),
        "successful_archives": sum(outcome != FAILED for outcome in clients.values()),
        "failed_archives": sum(outcome == FAILED for outcome in clients.values()),
        "unchanged": 0,
        "errors": [
            {"client_id": client, "client_name": f"Client {client}", "error": f"refused in {run_id}"}
            for client, outcome in clients.items()
            if outcome == FAILED
        ],
        "clients": [
            {
                "client_id": client,
                "client_name": f"Client {client}",
                "key": None if outcome == FAILED else f"trigger/{client}",
                "sha256": None if outcome == FAILED else "aa",
                "bytes": None if outcome == FAILED else 2,
                "version_id": None if outcome == FAILED else f"{run_id} {client}",
                "outcome": outcome,
                "run_id": run_id,
            }
            for client, outcome in clients.items()
        ],
    }


def place(run_id: str) -> SavedManifest:
    return SavedManifest(f"manifests/trigger/20260308/{run_id}.json", "v", f"digest of {run_id}")


def merge(*runs: dict[str, Any], day: dict[str, Any] | None = None) -> dict[str, Any]:
    for document in runs:
        day = merged(day, document, place(document["run_id"]))
    assert day is not None
    return day


def numbers(day: dict[str, Any]) -> tuple[int, int, int]:
    return day["total_clients"], day["successful_archives"], day["failed_archives"]


def test_repair_of_one_client_does_not_make_an_incomplete_day_look_complete() -> None:
    day = merge(run("nightly", c1=ARCHIVED, c2=FAILED, c3=FAILED), run("repair", c2=ARCHIVED))
    assert numbers(day) == (3, 2, 1)
    assert day["errors"] == [{"client_id": 3, "client_name": "Client 3", "error": "refused in nightly"}]
    assert [each["run_id"] for each in day["runs"]] == ["nightly", "repair"]
    assert {line["client_id"]: line["run_id"] for line in day["clients"]} == {1: "nightly", 2: "repair", 3: "nightly"}


def test_client_that_fails_again_is_reported_with_its_latest_reason() -> None:
    day = merge(run("nightly", c1=FAILED), run("repair", c1=FAILED))
    assert [error["error"] for error in day["errors"]] == ["refused in repair"]


def test_run_that_is_cleared_in_part_does_not_undo_what_another_archived_since() -> None:
    s3 = FakeS3()
    for document in (
        run("nightly", c1=FAILED, c2=FAILED, c3=ARCHIVED, c4=ARCHIVED, c5=ARCHIVED),
        run("repair", c1=ARCHIVED, c3=ARCHIVED, c5=FAILED),
        run("nightly", c1=FAILED, c2=ARCHIVED, c3=ARCHIVED, c4=FAILED, c5=ARCHIVED),
        run("nightly", c1=FAILED, c2=ARCHIVED, c3=ARCHIVED, c4=ARCHIVED, c5=ARCHIVED),
    ):
        record_run(s3, "archive", document)
    day = json.loads(s3.bodies(KEY)[-1] or b"")
    assert {line["client_id"]: (line["outcome"], line["run_id"]) for line in day["clients"]} == {
        1: (ARCHIVED, "repair"),
        2: (ARCHIVED, "nightly"),
        3: (ARCHIVED, "repair"),
        4: (ARCHIVED, "nightly"),
        5: (ARCHIVED, "nightly"),
    }
    assert (numbers(day), day["errors"]) == ((5, 5, 0), [])


def test_run_that_is_cleared_again_is_held_against_its_latest_manifest() -> None:
    s3 = FakeS3()
    for document in (
        run("nightly", c1=FAILED, c2=FAILED),
        run("nightly", c1=ARCHIVED, c2=FAILED),
        run("repair", c1=ARCHIVED),
        run("nightly", c1=ARCHIVED, c2=ARCHIVED),
    ):
        record_run(s3, "archive", document)
    day = json.loads(s3.bodies(KEY)[-1] or b"")
    assert {line["client_id"]: line["run_id"] for line in day["clients"]} == {1: "repair", 2: "nightly"}


def test_cleared_run_whose_client_fails_for_another_reason_is_reported_with_that() -> None:
    first, again = run("nightly", c1=FAILED), run("nightly", c1=FAILED)
    again["errors"][0]["error"] = "another reason"
    day = merged(merge(first), again, SavedManifest("key", "v2", "another digest"), earlier=first)
    assert [error["error"] for error in day["errors"]] == ["another reason"]


def test_run_that_is_merged_already_changes_nothing() -> None:
    first, second = run("nightly", c1=FAILED), run("repair", c1=ARCHIVED)
    day = merge(first, second)
    assert merge(first, day=day) == day


def test_manifest_of_before_the_ledger_counts_as_one_run_of_its_day() -> None:
    old = run("old", c1=ARCHIVED, c2=FAILED)
    old["clients"] = [
        {name: line[name] for name in line if name not in ("client_name", "run_id")} for line in old["clients"]
    ]
    day = merge(run("repair", c2=ARCHIVED), day=old)
    assert numbers(day) == (2, 2, 0)
    assert [each["run_id"] for each in day["runs"]] == ["old", "repair"]
    assert {line["client_id"]: line["run_id"] for line in day["clients"]} == {1: "old", 2: "repair"}


def test_day_in_the_bucket_has_its_counts_in_the_metadata_and_loses_no_run_to_a_race() -> None:
    s3 = FakeS3()
    manifests = Manifests(s3, "archive")
    first, second = run("nightly", c1=FAILED, c2=ARCHIVED), run("repair", c1=ARCHIVED)
    manifests.merge_day(DAY, first, place("nightly"))

    def other_writes(request: dict[str, Any]) -> None:
        del s3.before["PutObject"]
        Manifests(s3, "archive").merge_day(DAY, second, place("repair"))

    s3.before["PutObject"] = other_writes
    third = run("backfill", c3=FAILED)
    day = manifests.merge_day(DAY, third, place("backfill"))
    assert [each["run_id"] for each in day["runs"]] == ["nightly", "repair", "backfill"]
    assert json.loads(s3.bodies(KEY)[-1] or b"") == day
    assert s3.objects[KEY][-1].arguments["Metadata"] == {
        "trigger_date": "2026-03-08",
        "total_clients": "3",
        "successful_archives": "2",
        "failed_archives": "1",
        "unchanged": "0",
    }


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_write_that_another_one_crosses_is_settled_at_once(code: str) -> None:
    s3 = FakeS3()
    crossed = set[str]()

    def cross(request: dict[str, Any]) -> None:
        if request["Key"] not in crossed and request["Key"].startswith("manifests/"):
            crossed.add(request["Key"])
            raise s3_error(code)

    s3.before["PutObject"] = cross
    record_run(s3, "archive", run("nightly", c1=ARCHIVED))
    assert sorted(crossed) == s3.keys("manifests/") == [KEY, "manifests/trigger/20260308/nightly.json"]


def test_manifest_of_a_run_is_saved_once_and_a_cleared_run_gets_another_version() -> None:
    s3 = FakeS3()
    manifests = Manifests(s3, "archive")
    first = manifests.save_run(DAY, "manual__2026-03-08T06:00:00+00:00", run("m", c1=FAILED))
    assert manifests.save_run(DAY, "manual__2026-03-08T06:00:00+00:00", run("m", c1=FAILED)) == first
    assert first.key == "manifests/trigger/20260308/manual__2026-03-08T06:00:00+00:00.json"
    assert len(s3.bodies(first.key)) == 1
    cleared = manifests.save_run(DAY, "manual__2026-03-08T06:00:00+00:00", run("m", c1=ARCHIVED))
    assert (cleared.key, len(s3.bodies(first.key))) == (first.key, 2)
    assert cleared.version_id != first.version_id


def test_what_proves_the_first_run_of_a_day_is_written_without_reading() -> None:
    s3 = FakeS3()
    newest = Ledger(s3, "archive").newest()
    s3.calls.clear()
    entry = record_run(s3, "archive", run("nightly", c1=FAILED), newest=lambda: newest)
    assert s3.calls == {"PutObject": 3}
    assert (entry.number, json.loads(s3.bodies(KEY)[-1] or b"")["runs"][-1]["sha256"]) == (1, entry.sha256)


def test_run_that_is_recorded_again_finds_what_is_there() -> None:
    s3 = FakeS3()
    for name in ("nightly", "repair", "nightly"):
        entry = record_run(s3, "archive", run(name, c1=ARCHIVED))
        assert record_run(s3, "archive", run(name, c1=ARCHIVED)) == entry
    assert [len(s3.bodies(key)) for key in s3.keys("ledger/")] == [1, 1]
    assert len(s3.bodies(KEY)) == 2, "the day has a version for each of the two runs"
    assert [each["run_id"] for each in json.loads(s3.bodies(KEY)[-1] or b"")["runs"]] == ["nightly", "repair"]


def test_entry_and_the_day_s_manifest_are_written_at_the_same_time() -> None:
    s3, meet = FakeS3(), Barrier(2, timeout=60)

    def put(**request: Any) -> dict[str, Any]:
        if not request["Key"].startswith("manifests/trigger/20260308/"):
            meet.wait()
        return real(**request)

    real, s3.put_object = s3.put_object, put  # type: ignore[method-assign] # the meeting of this test
    record_run(s3, "archive", run("nightly", c1=ARCHIVED))
    assert not meet.broken
