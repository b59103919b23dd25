"""The sample month is what the pipelines would have written: the archive's own proof accepts it."""

import json
from datetime import date

from include.archive.ledger import Ledger
from local.sample.month import fill_archive
from tests.worlds.s3 import FakeS3

LAST = date(2026, 3, 8)


def test_month_has_days_with_failures_a_day_without_a_run_and_answers_that_changed() -> None:
    s3 = FakeS3()
    fill_archive(s3, "archive", [(1000, "One"), (1001, "Two"), (1002, "Three")], LAST, 30)
    manifests = [json.loads(s3.bodies(key)[-1] or b"") for key in s3.keys("manifests/trigger/") if key.count("/") == 2]
    assert len(manifests) == 29
    assert any(each["failed_archives"] == each["total_clients"] for each in manifests)
    assert any(len(s3.bodies(key)) > 1 for key in s3.keys("trigger/"))
    runs = len([key for key in s3.keys("manifests/trigger/") if key.count("/") == 3])
    assert Ledger(s3, "archive").last() == runs > 29
