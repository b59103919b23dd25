import logging
from collections.abc import Iterator
from typing import Any

import pytest

from include.call_details.keys import Incoming, processing_key, run_id
from include.call_details.ledger import LEASE_SECONDS
from include.call_details.models import CHUNK_BYTES, Claim, FileVersion
from include.call_details.storage import FileStore
from include.call_details.watcher import SHARED_BYTES, Intake
from include.errors import StorageUnavailableError
from tests.worlds.call_details_run import Surroundings
from tests.worlds.s3 import BUCKET, FakeIngestBucket, raising, s3_error

DEFAULT = Incoming("incoming/", ("*.filepart", "*.tmp", "*.part", "*.partial", ".*"))
KEYS = ["incoming/a +ä.txt", "incoming/b%20.txt", "incoming/sub/{{ 7 * 7 }}.txt"]


class Watch(Surroundings):
    """A watcher and its world."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake(self.store, self.claims, DEFAULT)

    def drop(self, *keys: str, body: bytes = b"x\n") -> list[FileVersion]:
        return [FileVersion(BUCKET, key, self.s3.drop(key, body)) for key in keys]

    def claim(self, file: FileVersion, owner: str, *, begun: bool = True) -> Claim:
        claim = self.claims.claim(file, owner, begun=begun)
        assert isinstance(claim, Claim)
        return claim


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_dropped_files_are_claimed_for_their_runs_and_moved(watch: Watch) -> None:
    files = watch.drop(*KEYS)
    taken = watch.intake.take()
    assert (sorted(taken.files, key=str), taken.left) == (sorted(files, key=str), ())
    assert watch.s3.present() == sorted(map(processing_key, files))
    for file in files:
        assert not watch.claims.current(file, run_id(file)).begun


def test_nothing_dropped_is_nothing_taken(watch: Watch) -> None:
    assert watch.intake.take().files == ()
    watch.drop("incoming/", "incoming/folder/")
    assert watch.intake.take().files == ()
    assert watch.s3.present("processing/") == []


@pytest.mark.parametrize("key", ["incoming/a\x01b.txt", "incoming/two\nlines.txt", "incoming/del\x7f.txt"])
def test_key_that_cannot_be_named_is_left_and_keeps_no_other_from_being_taken(key: str, watch: Watch) -> None:
    (good,) = watch.drop(KEYS[0])
    watch.drop(key)
    taken = watch.intake.take()
    assert taken.files == (good,)
    (left,) = taken.left
    assert (left.key, left.busy) == (key, False)
    assert "characters that cannot be stored or shown" in left.reason
    assert key in watch.s3.present("incoming/")


def test_round_ends_when_it_has_enough(watch: Watch) -> None:
    watch.drop(*(f"incoming/{number:02}.txt" for number in range(25)))
    first = watch.intake.take(limit=5)
    assert 5 <= len(first.files) < 25
    assert len(first.files) + len(watch.intake.take().files) == 25


def test_files_that_share_a_run_are_no_more_bytes_than_it_may_have(watch: Watch) -> None:
    class Large(FakeIngestBucket):
        def _listed(self, key: str) -> dict[str, Any]:
            return {**super()._listed(key), "Size": SHARED_BYTES // 12}

    s3 = Large()
    for number in range(30):
        s3.drop(f"incoming/{number:02}.txt", b"x\n")
    taken = Intake(FileStore(s3, BUCKET), watch.claims, DEFAULT).take()
    assert [len(files) for files in taken.runs.values()] == [12, 12, *[1] * 6], "few files have a run each"


def test_large_file_whose_copy_outlasts_its_claim_is_claimed_again(watch: Watch) -> None:
    class Large(FakeIngestBucket):
        def _listed(self, key: str) -> dict[str, Any]:
            return {**super()._listed(key), "Size": CHUNK_BYTES + 1}

        def list_versions(self, prefix: str) -> Iterator[dict[str, Any]]:
            return ({**found, "Size": CHUNK_BYTES + 1} for found in super().list_versions(prefix))

    s3 = Large()
    s3.drop(KEYS[0], b"x\n")
    s3.before["CopyObject"] = lambda request: watch.time.pass_by(LEASE_SECONDS + 1)
    assert len(Intake(FileStore(s3, BUCKET), watch.claims, DEFAULT).take().files) == 1
    assert [each.lapsed for each in watch.claims.unfinished()] == [False], "or another may take it meanwhile"


def test_file_that_cannot_be_moved_keeps_no_other_from_it(watch: Watch) -> None:
    watch.drop(*KEYS)

    def refuse(request: dict[str, Any]) -> None:
        if request["CopySource"]["Key"] == KEYS[1]:
            raise s3_error("AccessDenied", "CopyObject")

    watch.s3.before["CopyObject"] = refuse
    taken = watch.intake.take()
    assert {file.key for file in taken.files} == {KEYS[0], KEYS[2]}
    (left,) = taken.left
    assert (left.key, left.busy) == (KEYS[1], False)
    assert "AccessDenied" in left.reason
    assert watch.s3.present("incoming/") == [KEYS[1]]


def test_listing_that_fails_is_reported(watch: Watch) -> None:
    watch.s3.before["ListObjectsV2"] = raising(s3_error("SlowDown", "ListObjectsV2"))
    with pytest.raises(StorageUnavailableError):
        watch.intake.take()


def test_file_in_other_hands_stays(watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    watch.claim(file, "manual__1")
    (left,) = watch.intake.take().left
    assert (left.busy, left.reason) == (True, f"run manual__1 works on {KEYS[0]}")
    assert watch.s3.present() == [KEYS[0]]


def test_version_that_was_done_before_is_only_removed(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (file,) = watch.drop(KEYS[0])
    watch.claims.complete(watch.claim(file, "manual__1"), "receipts/1.json")
    assert watch.intake.take().files == ()
    assert watch.s3.present() == []
    assert "was ingested before by run manual__1, see receipts/1.json" in caplog.text


def test_new_content_under_an_old_key_is_another_file(watch: Watch) -> None:
    (old,) = watch.drop(KEYS[0])
    watch.intake.take()
    (new,) = watch.drop(KEYS[0], body=b"y\n")
    assert watch.intake.take().files == (new,)
    assert watch.s3.present() == sorted([processing_key(old), processing_key(new)])


def test_file_dropped_again_while_it_is_worked_on_leaves_no_second_copy(watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    watch.intake.take()
    watch.drop(KEYS[0])
    assert watch.intake.take().files == (file,)
    assert watch.s3.present() == [processing_key(file)]
    assert watch.s3.calls["CopyObject"] == 1


def test_overwritten_between_claim_and_move_loses_neither_version(watch: Watch) -> None:
    (old,) = watch.drop(KEYS[0])
    dropped: list[FileVersion] = []

    def overwrite(request: dict[str, Any]) -> None:
        del watch.s3.before["CopyObject"]
        dropped.extend(watch.drop(KEYS[0], body=b"newer\n"))

    watch.s3.before["CopyObject"] = overwrite
    assert watch.intake.take().files == (old,)
    assert watch.intake.take().files == (old, *dropped), "the older one has no run yet"
    assert watch.s3.body(processing_key(old)) == b"x\n"


def without_run(watch: Watch) -> set[FileVersion]:
    return {each.file for each in watch.intake.without_run()}


def test_claims_without_a_run_are_those_for_runs_and_those_that_lapsed(watch: Watch) -> None:
    mine, done, manual = watch.drop(*KEYS)
    watch.claim(mine, run_id(mine), begun=False)
    watch.claims.complete(watch.claim(done, run_id(done), begun=False), "receipts/done.json")
    watch.claim(manual, "manual__1")
    elsewhere = FileVersion("another-bucket", KEYS[0], "e")
    watch.claim(elsewhere, run_id(elsewhere), begun=False)
    assert without_run(watch) == {mine}
    watch.time.now += 901
    assert without_run(watch) == {mine, manual}


def test_released_file_gets_a_run_only_when_it_is_delivered_again(watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    watch.intake.take()
    watch.claims.release(watch.claim(file, run_id(file)))
    assert without_run(watch) == set(), "people were told, and it is theirs"
    watch.time.now += 901
    assert without_run(watch) == set()
    watch.drop(KEYS[0])
    assert watch.intake.take().files == (file,)
    assert without_run(watch) == {file}
    assert watch.s3.present() == [processing_key(file)]


def test_file_that_cannot_be_moved_is_not_delivered_again_by_each_round(watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    watch.s3.before["CopyObject"] = raising(s3_error("AccessDenied", "CopyObject"))
    watch.intake.take()
    assert without_run(watch) == {file}, "a run may find it where it lies"
    watch.claim(file, run_id(file))
    watch.intake.take()
    assert without_run(watch) == set(), "or its run would be started anew for ever"


@pytest.mark.parametrize("broken", ["put_item", "DeleteObject"])
def test_round_that_dies_with_a_file_in_its_hands_is_made_good_by_the_next(broken: str, watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    watch.claims.release(watch.claim(file, run_id(file)))
    die = raising(KeyboardInterrupt("killed"))

    def copied(request: dict[str, Any]) -> None:
        watch.table.before["put_item"] = die

    watch.s3.before[broken if broken == "DeleteObject" else "CopyObject"] = die if broken == "DeleteObject" else copied
    with pytest.raises(KeyboardInterrupt):
        watch.intake.take()
    watch.s3.before.clear()
    watch.table.before.clear()
    assert watch.intake.take().files == (file,)
    assert without_run(watch) == {file}
    assert watch.s3.present() == [processing_key(file)]


def test_file_that_its_run_closes_in_the_same_moment_leaves_no_stray_copy(watch: Watch) -> None:
    (file,) = watch.drop(KEYS[0])
    claim = watch.claim(file, run_id(file))

    def close(request: dict[str, Any]) -> None:
        watch.s3.before.clear()
        watch.claims.complete(claim, "receipts/1.json")

    watch.s3.before["CopyObject"] = close
    assert watch.intake.take().files == ()
    assert watch.s3.present() == []


@pytest.mark.parametrize("name", ["late.txt.filepart", "a.tmp", "A.TMP", "x.part", "x.partial", ".x", "sub/.~lock#"])
def test_upload_under_way_is_left_until_it_has_its_name(name: str, watch: Watch) -> None:
    watch.drop(f"incoming/{name}")
    (file,) = watch.drop("incoming/late.txt")
    taken = watch.intake.take()
    assert (taken.files, taken.left) == ((file,), ())
    assert watch.s3.present("incoming/") == [f"incoming/{name}"]


def test_files_are_taken_under_another_prefix(watch: Watch) -> None:
    intake = Intake(watch.store, watch.claims, Incoming("drops/daily/", DEFAULT.ignored))
    watch.drop("incoming/a.txt", "drops/b.txt")
    (file,) = watch.drop("drops/daily/c.txt")
    assert intake.take().files == (file,)
    assert processing_key(file) in watch.s3.present()


def test_files_are_taken_anywhere_but_under_the_projects_own_prefixes(watch: Watch) -> None:
    intake = Intake(watch.store, watch.claims, Incoming("", DEFAULT.ignored))
    files = watch.drop("a.txt", "drops/b.txt", "incoming/c.txt", "~/d.txt")
    watch.drop("receipts/x.json", "plans/x.json", "dead-letter/x.json", "failed/e/x", "processed/x", "folder/", "e.tmp")
    assert set(intake.take().files) == set(files)
    for file in files:
        assert watch.s3.body(processing_key(file)) == b"x\n"
    assert intake.take().files == ()
    assert intake.beside() == []


@pytest.mark.parametrize(
    ("prefix", "beside"),
    [
        ("incoming/", ["a.txt", "drops/b.txt", "drops/sub/c.txt"]),
        ("drops/", ["a.txt", "incoming/d.txt"]),
        ("drops/sub/", ["a.txt", "drops/b.txt", "incoming/d.txt"]),
        ("none/of/these/", ["a.txt", "drops/b.txt", "drops/sub/c.txt", "incoming/d.txt"]),
    ],
)
def test_files_beside_the_prefix_are_found(prefix: str, beside: list[str], watch: Watch) -> None:
    watch.drop("a.txt", "drops/b.txt", "drops/sub/c.txt", "incoming/d.txt")
    watch.drop("receipts/x.json", "processed/2026/x", "folder/", "e.tmp", "drops/.hidden")
    found = Intake(watch.store, watch.claims, Incoming(prefix, DEFAULT.ignored)).beside()
    assert sorted(left.key for left in found) == beside
    for left in found:
        assert left.beside
        assert left.reason == f"it is not under {prefix}: move it there, or change the setting incoming_prefix"
