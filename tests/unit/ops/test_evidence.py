"""Any runs, kills and repairs end in an archive that verifies; any change afterwards is found where it was made."""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.archive.ledger import Entry, SavedManifest, sha256
from include.archive.manifests import merged
from include.clients.s3 import json_bytes
from ops.evidence import Finding, Scope, Verification
from ops.evidence import verify as report_of
from ops.report import OpsError
from tests.worlds.evidence import CLIENTS, FIRST, Bucket, archive, save, summarize, three_days
from tests.worlds.s3 import Version, VersionedBucket, raising, s3_error


class Killed(Exception):  # noqa: N818 - what happens to a process
    """The process is gone."""


def verify(s3: VersionedBucket, scope: Scope | None = None, checkpoint: Path | None = None) -> list[Finding]:
    return Verification(s3, s3.bucket, scope or Scope()).run(checkpoint)[0]


@cache
def three_days_for_all() -> VersionedBucket:
    """Whoever changes it puts it back."""
    bucket = VersionedBucket()
    three_days(bucket)
    assert verify(bucket) == []
    return bucket


RUNS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.dictionaries(st.sampled_from(CLIENTS), st.sampled_from([None, b"[]", b'{"a": 1}', b'{"a": 2}']), min_size=1),
        st.none() | st.integers(1, 4),
    ),
    min_size=1,
    max_size=6,
)


def run_all(s3: VersionedBucket, runs: list[tuple[int, dict[int, bytes | None], int | None]]) -> None:
    """Runs one after the other; a summary that is killed before its n-th write is repeated, as is a lost answer to it.

    What became of each client is in working files by then, so a repeated summary has the same outcomes.
    """
    for number, (offset, answers, killed_at) in enumerate(runs):
        day = FIRST + timedelta(days=offset)
        outcomes = save(s3, day, answers)
        writes = itertools.count(1)

        def die(request: dict[str, Any], at: int | None = killed_at, writes: Iterator[int] = writes) -> None:
            if next(writes) == at:
                raise Killed

        s3.before["PutObject"] = die
        with suppress(Killed):
            summarize(s3, f"run {number}", day, outcomes)
        del s3.before["PutObject"]
        summarize(s3, f"run {number}", day, outcomes)


@settings(max_examples=60, deadline=None)
@given(runs=RUNS)
def test_whatever_runs_and_dies_ends_in_one_chain_that_verifies(
    runs: list[tuple[int, dict[int, bytes | None], int | None]],
) -> None:
    s3 = VersionedBucket()
    run_all(s3, runs)
    assert [finding for finding in verify(s3) if finding.kind != "not selected"] == []
    assert len(s3.keys("ledger/")) == len(runs)


@pytest.mark.parametrize("release", ["this", "the one before"])
def test_day_of_a_run_that_was_cleared_in_part_verifies(release: str) -> None:
    s3 = VersionedBucket()
    archive(s3, "nightly", FIRST, {1: None, 2: None})
    archive(s3, "repair", FIRST, {1: b'{"a": 1}'})
    archive(s3, "nightly", FIRST, {1: None, 2: b'{"a": 2}'})
    key = "manifests/trigger/20260301.json"
    day = json.loads(s3.bodies(key)[-1] or b"")
    assert day["failed_archives"] == 0
    if release != "this":
        before: dict[str, Any] | None = None
        for each in day["runs"]:
            body = s3.get_object(Bucket=s3.bucket, Key=each["manifest"], VersionId=each["version_id"])["Body"].read()
            before = merged(before, json.loads(body), SavedManifest(each["manifest"], each["version_id"], sha256(body)))
        assert before["failed_archives"] == 1
        s3.objects[key][-1] = replace(s3.objects[key][-1], body=json_bytes(before))
    assert verify(s3) == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_byte_that_is_changed_afterwards_is_found_where_it_was_changed(data: st.DataObject) -> None:
    s3 = three_days_for_all()
    key = data.draw(st.sampled_from(s3.keys()))
    version = s3.objects[key][-1]
    body = bytearray(version.body or b"")
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    s3.objects[key][-1] = replace(version, body=bytes(body))
    try:
        findings = verify(s3)
    finally:
        s3.objects[key][-1] = version
    assert any(finding.where.startswith(key) for finding in findings), findings


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("trigger/2/2_trigger_20260302.json", "missing"),
        ("ledger/trigger/00000002.json", "missing"),
        ("manifests/trigger/20260302.json", "missing"),
        ("manifests/trigger/20260302/run%201.json", "missing"),
    ],
)
def test_object_that_is_gone_is_missed(s3: VersionedBucket, key: str, kind: str) -> None:
    del s3.objects[key]
    findings = verify(s3)
    assert any(finding.kind == kind and finding.where.startswith(key) for finding in findings)
    assert "rewritten" not in {finding.kind for finding in findings}, "of what is left, nothing was"


def test_answer_behind_a_delete_marker_is_missed(s3: VersionedBucket) -> None:
    s3.delete("trigger/2/2_trigger_20260302.json")
    (finding,) = verify(s3)
    assert (finding.kind, "delete marker" in finding.what) == ("missing", True)
    archive(s3, "again", FIRST + timedelta(days=1), {2: b'{"client": 2}'})
    assert verify(s3) == [], "it is there again"


def test_day_whose_manifest_is_an_earlier_one_again_is_found() -> None:
    s3 = VersionedBucket()
    for run in ("first", "second"):
        archive(s3, run, FIRST, {1: b"{}"})
    key = "manifests/trigger/20260301.json"
    s3.put_object(Bucket=s3.bucket, Key=key, Body=s3.bodies(key)[0])
    (finding,) = verify(s3)
    assert (finding.kind, finding.where, finding.what) == (
        "changed",
        key,
        "lacks manifests/trigger/20260301/second.json",
    )


def test_answer_that_no_entry_knows_is_found(s3: VersionedBucket) -> None:
    s3.put_object(Bucket=s3.bucket, Key="trigger/9/9_trigger_20260302.json", Body=b"{}")
    (finding,) = verify(s3)
    assert (finding.kind, finding.where.split()[0]) == ("added", "trigger/9/9_trigger_20260302.json")


def test_answers_of_a_run_under_way_are_found_and_proven_when_it_has_ended(s3: VersionedBucket) -> None:
    day = FIRST + timedelta(days=3)
    outcomes = save(s3, day, dict.fromkeys(CLIENTS, b"[1]"))
    findings = verify(s3)
    assert [finding.kind for finding in findings] == ["added"] * len(CLIENTS)
    assert all("if one is under way or has just ended, verify again" in finding.do for finding in findings)
    summarize(s3, "fourth", day, outcomes)
    assert verify(s3) == []


@pytest.mark.parametrize(
    "key",
    [
        "trigger/9/9_trigger_20261399.json",
        "trigger/9/9_trigger_\u0662\u0660\u0662\u0666\u0660\u0663\u0660\u0662.json",
        "trigger/notes.txt",
        "ledger/trigger/",
        "ledger/trigger/notes.txt",
    ],
)
def test_object_that_is_neither_answer_nor_entry_is_found_and_hides_nothing(s3: VersionedBucket, key: str) -> None:
    s3.put_object(Bucket=s3.bucket, Key=key, Body=b"{}")
    s3.delete("trigger/2/2_trigger_20260302.json")
    found = {(finding.kind, finding.where.split()[0]) for finding in verify(s3)}
    assert found == {("added", key), ("missing", "trigger/2/2_trigger_20260302.json")}


def test_entries_that_are_gone_are_one_finding_however_many(s3: VersionedBucket) -> None:
    s3.put_object(
        Bucket=s3.bucket, Key="ledger/trigger/99999999.json", Body=s3.bodies("ledger/trigger/00000003.json")[0]
    )
    missing = [finding for finding in verify(s3) if finding.kind == "missing"]
    assert [finding.where for finding in missing] == ["ledger/trigger/00000004.json"]
    assert "99,999,995 entries" in missing[0].what


@pytest.mark.parametrize(
    ("name", "value"), [("number", "3"), ("number", 3.0), ("manifest", 7), ("trigger_date", 20260303), ("previous", [])]
)
def test_entry_with_fields_of_other_types_is_found(s3: VersionedBucket, name: str, value: object) -> None:
    key = "ledger/trigger/00000003.json"
    (entry,) = s3.objects[key]
    forged = json.loads(entry.body or b"") | {name: value}
    body = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    s3.objects[key] = [replace(entry, body=body)]
    assert ("rewritten", key) in {(finding.kind, finding.where) for finding in verify(s3)}


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'{"run_id":"run 2","trigger_date":3,"clients":[]}', b"[" * 100_000],
    ids=lambda body: body[:30],
)
def test_newest_manifest_and_entry_that_were_both_forged_are_found(s3: VersionedBucket, body: bytes) -> None:
    key, place = "manifests/trigger/20260303/run%202.json", "ledger/trigger/00000003.json"
    (manifest,), (entry,) = s3.objects[key], s3.objects[place]
    s3.objects[key] = [replace(manifest, body=body)]
    forged = replace(Entry.from_bytes(entry.body or b""), sha256=sha256(body))
    s3.objects[place] = [replace(entry, body=forged.to_bytes())]
    assert any(finding.kind == "changed" and finding.where.startswith(key) for finding in verify(s3))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"runs":5}', b"[" * 100_000], ids=lambda body: body[:30])
def test_day_whose_manifest_is_none_is_found(s3: VersionedBucket, body: bytes) -> None:
    key = "manifests/trigger/20260302.json"
    s3.objects[key][-1] = replace(s3.objects[key][-1], body=body)
    assert [(finding.kind, finding.where) for finding in verify(s3)] == [("changed", key)]


def test_checkpoint_that_is_none_is_refused_and_left_as_it_was(s3: VersionedBucket, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, and longer than its header would be" * 10)
    for name in ("notes.txt", "nowhere/proven.sqlite"):
        with pytest.raises(OpsError, match=f"{name} cannot be used"):
            verify(s3, checkpoint=tmp_path / name)
    assert (tmp_path / "notes.txt").read_text().startswith("not a database")


def test_entry_that_was_written_again_is_found_though_its_bytes_are_the_same(s3: VersionedBucket) -> None:
    key = "ledger/trigger/00000003.json"
    s3.put_object(Bucket=s3.bucket, Key=key, Body=s3.bodies(key)[0])
    (finding,) = verify(s3)
    assert (finding.kind, finding.where) == ("rewritten", key)


def test_client_that_its_neighbours_days_have_and_a_day_between_never_selected_is_found() -> None:
    s3 = VersionedBucket()
    for number, clients in enumerate([(1, 2), (1,), (1, 2)]):
        archive(s3, f"run {number}", FIRST + timedelta(days=number), dict.fromkeys(clients, b"{}"))
    (finding,) = verify(s3)
    assert (finding.kind, finding.where) == ("not selected", "client 2, 2026-03-02")
    assert "--client 2" in finding.do
    assert verify(s3, Scope(client=1)) == []


def test_archive_of_before_the_ledger_is_unproven_and_not_broken(s3: VersionedBucket) -> None:
    old = Version("v0", b"{}", stored_at=datetime.now(UTC) - timedelta(days=400))
    s3.objects["trigger/7/7_trigger_20250101.json"] = [old]
    without_a_ledger = VersionedBucket()
    without_a_ledger.objects |= {key: versions for key, versions in s3.objects.items() if "20250101" in key}
    for bucket in (s3, without_a_ledger):
        (finding,) = verify(bucket)
        assert (finding.kind, finding.do) == ("unproven", "ops evidence adopt")


@pytest.mark.parametrize(
    ("scope", "said", "failed"),
    [
        (Scope(), "everything is proven", False),
        (Scope(client=2), "everything is proven", False),
        (Scope(client=22), "there is no answer to prove", True),
        (Scope(first=FIRST + timedelta(days=30)), "there is no answer to prove", True),
    ],
)
def test_client_or_days_without_an_answer_are_not_called_proven(
    s3: VersionedBucket, scope: Scope, said: str, failed: bool
) -> None:
    environment = Bucket("test", s3, None, {}, httpx.Client())
    report = report_of(environment, scope, tell=lambda text: None)
    assert report.title.endswith(f"answers read; {said}")
    assert report.failed is failed


def test_archive_before_its_first_run_has_nothing_to_prove() -> None:
    report = report_of(Bucket("test", VersionedBucket(), None, {}, httpx.Client()), Scope(), tell=lambda text: None)
    assert report.title.endswith("0 answers read; there is no answer to prove")
    assert not report.failed


def test_reader_who_may_not_see_locks_is_not_told_that_there_are_none(s3: VersionedBucket) -> None:
    # S3 leaves the headers out of its answers then.
    report = report_of(Bucket("test", s3, None, {}, httpx.Client()), Scope(), tell=lambda text: None)
    assert report.notes[0] == "no lock was seen; S3 shows locks to those only who may call s3:GetObjectRetention"


def test_scope_leaves_the_rest_unread(s3: VersionedBucket) -> None:
    s3.delete("trigger/2/2_trigger_20260302.json")
    s3.delete("trigger/1/1_trigger_20260303.json")
    day = FIRST + timedelta(days=1)
    assert [finding.where.split()[0] for finding in verify(s3, Scope(first=day, last=day))] == [
        "trigger/2/2_trigger_20260302.json"
    ]
    assert verify(s3, Scope(client=3)) == []


def interrupted(s3: VersionedBucket, checkpoint: Path) -> None:
    """A verification that ends when all answers are read and noted."""

    def interrupt(request: dict[str, Any]) -> None:
        if request["Prefix"] == "trigger/":
            raise Killed

    s3.before["ListObjectVersions"] = interrupt
    with pytest.raises(Killed):
        verify(s3, checkpoint=checkpoint)
    del s3.before["ListObjectVersions"]


def test_checkpoint_of_another_bucket_or_scope_proves_nothing(s3: VersionedBucket, tmp_path: Path) -> None:
    checkpoint = tmp_path / "proven.sqlite"
    interrupted(s3, checkpoint)
    with pytest.raises(OpsError, match=r"is of archive \(all\), not of archive-prod \(all\): name another file"):
        Verification(s3, "archive-prod").run(checkpoint)
    scope = Scope(first=FIRST, client=22)
    with pytest.raises(OpsError, match=r"is of archive \(all\), not of archive \(from 2026-03-01, client 22\)"):
        verify(s3, scope, checkpoint)
    assert verify(s3, checkpoint=checkpoint) == []


def test_interrupted_verification_goes_on_from_its_checkpoint(s3: VersionedBucket, tmp_path: Path) -> None:
    checkpoint, reads = tmp_path / "proven.sqlite", list[int]()
    interrupted(s3, checkpoint)
    for _ in range(2):
        before = s3.calls["GetObject"]
        verification = Verification(s3, s3.bucket)
        assert verification.run(checkpoint) == ([], {"entries": 3, "manifests": 3, "answers": 9})
        reads.append(s3.calls["GetObject"] - before)
    assert reads[1] - reads[0] == 3 * len(CLIENTS), "answers that were proven are not read again"


def test_verification_that_came_to_its_end_proves_nothing_to_the_next(s3: VersionedBucket, tmp_path: Path) -> None:
    checkpoint, key = tmp_path / "proven.sqlite", "trigger/2/2_trigger_20260302.json"
    assert verify(s3, checkpoint=checkpoint) == []
    del s3.objects[key]
    assert [(finding.kind, finding.where.split()[0]) for finding in verify(s3, checkpoint=checkpoint)] == [
        ("missing", key)
    ]


def test_each_of_many_answers_is_read_once() -> None:
    s3, told = VersionedBucket(), list[str]()
    archive(s3, "run", FIRST, dict.fromkeys(range(1, 1102), b"[1]"))
    verification = Verification(s3, s3.bucket, tell=told.append)
    assert verification.run() == ([], {"entries": 1, "manifests": 1, "answers": 1101})
    assert told == ["1,000 of 1,101 answers read", "1,101 of 1,101 answers read"]


def lock(s3: VersionedBucket, key: str, until: datetime) -> None:
    (version,) = s3.objects[key]
    s3.objects[key] = [replace(version, arguments=version.arguments | {"ObjectLockRetainUntilDate": until})]


def test_earliest_end_of_the_locks_is_shown(s3: VersionedBucket) -> None:
    now = datetime.now(UTC)
    times = [now + timedelta(days=days) for days in (900, 200)]
    for key, time in zip(s3.keys("trigger/1/"), times, strict=False):
        lock(s3, key, time)
    verification = Verification(s3, s3.bucket)
    assert verification.run()[0] == []
    assert (verification.locked, verification.locked_until, verification.unlocked) == (2, min(times), 0)


def test_lock_that_has_ended_keeps_nothing_and_is_told_apart(s3: VersionedBucket) -> None:
    now, (first, second, _) = datetime.now(UTC), s3.keys("trigger/1/")
    environment, later = Bucket("test", s3, None, {}, httpx.Client()), now + timedelta(days=900)
    lock(s3, first, now - timedelta(days=1))
    notes = [report_of(environment, Scope(), tell=lambda text: None).notes[:-1]]
    lock(s3, second, later)
    notes.append(report_of(environment, Scope(), tell=lambda text: None).notes[:-1])
    ended = "the locks of 1 of them have ended"
    assert notes == [[ended], [f"1 of them are locked, at least until {later:%Y-%m-%d}", ended]]


def test_newest_entry_s_digest_is_shown_to_be_compared_with_what_was_noted_elsewhere(s3: VersionedBucket) -> None:
    report = report_of(Bucket("test", s3, None, {}, httpx.Client()), Scope(), tell=lambda text: None)
    digest = sha256(s3.bodies("ledger/trigger/00000003.json")[0] or b"")
    assert report.notes[-1].startswith(f"entry 3 is the newest, with sha256 {digest}: ")


def test_who_may_read_nothing_but_the_bucket_names_it(s3: VersionedBucket) -> None:
    class Reader(Bucket):
        def output(self, name: str) -> str:
            raise AssertionError("it asks for the stack")

    report = report_of(Reader("test", s3, None, {}, httpx.Client()), Scope(), bucket=s3.bucket, tell=lambda text: None)
    assert not report.failed


def test_storage_that_fails_ends_the_verification_and_proves_nothing(s3: VersionedBucket) -> None:
    s3.before["GetObject"] = raising(s3_error("SlowDown", "GetObject"))
    with pytest.raises(Exception, match="SlowDown"):
        verify(s3)
