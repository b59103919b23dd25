"""What no run accounted for is taken into the ledger as it is, once somebody agreed, and is proven from then on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ops.evidence import Verification
from ops.evidence_adopt import adopt
from ops.report import OpsError
from tests.worlds.evidence import Bucket
from tests.worlds.s3 import Version, VersionedBucket, raising, s3_error


def test_object_that_is_no_answer_is_not_adopted(s3: VersionedBucket) -> None:
    key = "trigger/notes.txt"
    s3.objects[key] = [Version("v0", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))]
    with pytest.raises(OpsError, match=f"{key} is not the key of an answer: move it away"):
        adopt(Bucket("test", s3, None, {}, httpx.Client()), agree=lambda text: None, tell=lambda text: None)


def test_answers_that_no_run_accounted_for_are_adopted_where_somebody_names_them(s3: VersionedBucket) -> None:
    for key in ("trigger/7/7_trigger_20250101.json", "trigger/8/8_trigger_20250101.json"):
        s3.objects[key] = [Version("null", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))]
    orphan, forged = "trigger/1/1_trigger_20260302.json", "trigger/2/2_trigger_20260302.json"
    for key in (orphan, forged):
        s3.put_object(Bucket=s3.bucket, Key=key, Body=b'{"late": true}')
    environment, asked = Bucket("test", s3, None, {}, httpx.Client()), list[str]()
    with pytest.raises(OpsError, match=r"nothing as added at trigger/1/1_trigger_20260303\.json$"):
        adopt(environment, added=[orphan, orphan.replace("02.json", "03.json")], agree=asked.append, tell=asked.append)
    adopt(environment, added=[orphan], agree=asked.append, tell=asked.append)
    assert asked[-1] == "Take 3 answers of s3://archive into the ledger as they are now?"
    assert [(finding.kind, finding.where.split()[0]) for finding in Verification(s3, s3.bucket).run()[0]] == [
        ("added", forged)
    ]
    with pytest.raises(OpsError, match="lacks an entry"):
        adopt(environment, agree=asked.append, tell=asked.append)


def test_what_is_adopted_is_locked_as_what_runs_write(s3: VersionedBucket) -> None:
    key, kept_longer = "trigger/7/7_trigger_20250101.json", "trigger/8/8_trigger_20250101.json"
    no_more = "trigger/9/9_trigger_20250101.json"
    s3.objects[key] = [Version("null", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))]
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime(2099, 1, 1, tzinfo=UTC)}
    s3.objects[kept_longer] = [replace(s3.objects[key][0], arguments=lock)]
    ended = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) - timedelta(days=1)}
    s3.objects[no_more] = [replace(s3.objects[key][0], arguments=ended)]
    asked = list[str]()
    stack = {"ArchiveLockMode": "COMPLIANCE", "ArchiveLockDays": "3650"}
    adopt(Bucket("test", s3, None, stack, httpx.Client()), agree=asked.append, tell=lambda text: None)
    assert "as they are now, and lock them for 3,650 days (COMPLIANCE)?" in asked[0]
    written = [key, no_more, *s3.keys("manifests/trigger/adopted/"), s3.keys("ledger/")[-1]]
    for each in written:
        noted = s3.head_object(Bucket=s3.bucket, Key=each)
        assert noted["ObjectLockMode"] == "COMPLIANCE"
        assert noted["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=3649)
    assert len(written) == 4
    (version,) = s3.objects[kept_longer]
    assert lock.items() <= version.arguments.items()


def test_key_may_look_like_a_version_s_id(s3: VersionedBucket) -> None:
    key = "trigger/2/copy (1).json"
    s3.objects[key] = [Version("v0", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))]
    with pytest.raises(OpsError, match=r"^trigger/2/copy \(1\)\.json is not the key of an answer"):
        adopt(Bucket("test", s3, None, {}, httpx.Client()), agree=lambda text: None, tell=lambda text: None)


def test_answer_that_is_gone_before_it_was_read_is_not_adopted(s3: VersionedBucket) -> None:
    key = "trigger/7/7_trigger_20250101.json"
    s3.objects[key] = [Version("v0", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))]

    def vanish(request: dict[str, Any]) -> None:
        s3.before["GetObject"] = raising(s3_error("NoSuchKey", "GetObject"))

    s3.before["HeadObject"] = vanish
    with pytest.raises(OpsError, match=rf"^{key} \(v0\) is gone by now"):
        adopt(Bucket("test", s3, None, {}, httpx.Client()), agree=lambda text: None, tell=lambda text: None)
    assert len(s3.keys("ledger/")) == 3


def test_answers_of_a_first_run_whose_manifest_is_lost_are_not_taken_for_older_ones(s3: VersionedBucket) -> None:
    del s3.objects["manifests/trigger/20260301/run%200.json"]
    with pytest.raises(OpsError, match="no answer of before the ledger lacks an entry"):
        adopt(Bucket("test", s3, None, {}, httpx.Client()), agree=lambda text: None, tell=lambda text: None)
