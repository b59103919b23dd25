import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from ops.archive import answer, day
from ops.report import OpsError
from tests.worlds.evidence import FIRST, Bucket, archive
from tests.worlds.s3 import VersionedBucket

DAY = FIRST + timedelta(days=1)
KEY = "trigger/2/2_trigger_20260302.json"


@pytest.fixture
def environment(s3: VersionedBucket) -> Iterator[Bucket]:
    with httpx.Client() as http:
        yield Bucket("test", s3, None, {}, http)


def test_every_version_is_shown_with_its_digest_recomputed(environment: Bucket) -> None:
    archive(environment.session, "again", DAY, {2: b'{"client": 2, "later": true}'})
    report = answer(environment, DAY, 2)
    assert [(row["latest"], row["proof"]) for row in report.rows] == [("latest", "as stored"), ("", "as stored")]
    assert not report.failed


def test_version_that_was_changed_fails_the_command(environment: Bucket) -> None:
    (version,) = environment.session.objects[KEY]
    environment.session.objects[KEY] = [replace(version, body=b"forged")]
    report = answer(environment, DAY, 2)
    assert [row["proof"] for row in report.rows] == ["CHANGED"]
    assert report.failed


def test_answer_behind_a_delete_marker_is_said_to_be_deleted(environment: Bucket) -> None:
    environment.session.delete(KEY)
    report = answer(environment, DAY, 2)
    assert [(row["latest"], row["proof"].partition(":")[0]) for row in report.rows] == [
        ("latest", "DELETED"),
        ("", "as stored"),
    ]
    assert report.failed


def test_answer_of_before_this_pipeline_has_no_digest_to_compare_and_is_not_called_changed(environment: Bucket) -> None:
    (version,) = environment.session.objects[KEY]
    environment.session.objects[KEY] = [replace(version, arguments={**version.arguments, "Metadata": {}})]
    report = answer(environment, DAY, 2)
    assert [row["proof"].partition(":")[0] for row in report.rows] == ["no digest was noted"]
    assert not report.failed


def test_client_ids_of_a_day_can_be_copied(environment: Bucket) -> None:
    archive(environment.session, "more", DAY, {12345: b"{}", 67890: None})
    shown = io.StringIO()
    day(environment, DAY).write(as_json=False, file=shown)
    # Those that failed come first.
    assert [line.split()[0] for line in shown.getvalue().splitlines() if line[:1].isdigit()][1:3] == ["67890", "1"]
    assert "12345" in shown.getvalue()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"clients": []}', b"[" * 100_000], ids=lambda body: body[:30])
def test_manifest_of_a_day_that_is_none_is_said(environment: Bucket, body: bytes) -> None:
    environment.session.put_object(Bucket="archive", Key="manifests/trigger/20260302.json", Body=body)
    with pytest.raises(OpsError, match="evidence verify"):
        day(environment, DAY)


def test_day_without_a_run_is_said(environment: Bucket) -> None:
    report = day(environment, FIRST + timedelta(days=9))
    assert (report.title, list(report.rows)) == ("2026-03-10: no manifest", [])
    assert report.notes[0].startswith("No run has ended for 2026-03-10")
