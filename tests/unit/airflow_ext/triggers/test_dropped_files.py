import asyncio
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_ext.outside import outside
from airflow_ext.settings import Settings
from airflow_ext.triggers.dropped_files import DroppedFileTrigger
from tests.worlds.s3 import BUCKET, FakeIngestBucket, raising, s3_error


def fired(s3: FakeIngestBucket, *arrivals: str, prefix: str = "incoming/") -> tuple[list[dict[str, Any]], list[float]]:
    """The trigger's events and pauses, when one of these keys arrives in each pause."""
    waiting, pauses = list(arrivals), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        s3.drop(waiting.pop(0), b"1\n")

    async def run() -> list[TriggerEvent]:
        path, arguments = DroppedFileTrigger(
            BUCKET, prefix, list(Settings.model_fields["ignored_names"].default), 5.0
        ).serialize()
        assert path == "airflow_ext.triggers.dropped_files.DroppedFileTrigger"
        return [event async for event in DroppedFileTrigger(**arguments).run()]

    with outside.replaced(aws={"s3": s3}, pause=pause):
        return [event.payload for event in asyncio.run(run())], pauses


def test_fires_once_when_a_file_is_there() -> None:
    s3 = FakeIngestBucket()
    s3.drop("incoming/a.txt", b"1\n")
    assert fired(s3) == ([{"status": "success"}], [])


def test_an_upload_under_way_is_waited_for() -> None:
    arrivals = ["incoming/late.txt.filepart", "incoming/folder/", "elsewhere/a.txt", "incoming/late.txt"]
    assert fired(FakeIngestBucket(), *arrivals) == ([{"status": "success"}], [5.0] * 4)


def test_looks_under_the_prefix_of_the_settings() -> None:
    assert fired(FakeIngestBucket(), "incoming/a.txt", "drops/a.txt", prefix="drops/")[1] == [5.0, 5.0]
    assert fired(FakeIngestBucket(), "receipts/x.json", "a.txt", prefix="")[1] == [5.0, 5.0]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (s3_error("AccessDenied", "ListObjectsV2"), "StorageRefusedError: cannot list s3://ingest/incoming/"),
        (RuntimeError("pl4nted"), "RuntimeError"),
    ],
)
def test_what_s3_refuses_ends_the_wait_with_an_error(error: Exception, told: str) -> None:
    s3 = FakeIngestBucket()
    s3.before["ListObjectsV2"] = raising(error)
    (event,), _ = fired(s3)
    assert (event["status"], event["message"].startswith(told), "pl4nted" in event["message"]) == ("error", True, False)
