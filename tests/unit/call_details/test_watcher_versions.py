"""Every version that was dropped gets its claim, also one that was overwritten before it was claimed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.keys import processing_key, run_id
from include.call_details.models import FileVersion
from tests.unit.call_details.test_watcher import KEYS, Watch
from tests.worlds.s3 import BUCKET, s3_error


def bodies(watch: Watch, files: list[FileVersion]) -> list[bytes]:
    return [watch.s3.body(processing_key(file)) for file in files]


def test_three_contents_under_one_key_are_three_files_oldest_first() -> None:
    watch = Watch()
    dropped = [watch.drop(KEYS[0], body=b"%d\n" % number)[0] for number in range(3)]
    assert watch.intake.take().files == tuple(dropped)
    assert bodies(watch, dropped) == [b"0\n", b"1\n", b"2\n"]
    assert watch.s3.present("incoming/") == []
    assert watch.intake.take().files == ()


def test_what_was_deleted_before_it_was_claimed_is_withdrawn() -> None:
    watch = Watch()
    watch.drop(KEYS[0], body=b"withdrawn\n")
    watch.s3.delete(KEYS[0])
    assert watch.intake.take().files == ()
    (file,) = watch.drop(KEYS[0], body=b"meant\n")
    assert watch.intake.take().files == (file,)


def test_versions_that_were_ingested_before_are_not_taken_again() -> None:
    watch = Watch()
    (old,) = watch.drop(KEYS[0], body=b"old\n")
    watch.intake.take()
    watch.claims.complete(watch.claim(old, run_id(old)), "receipts/old.json")
    new = [watch.drop(KEYS[0], body=b"%d\n" % number)[0] for number in range(2)]
    assert watch.intake.take().files == tuple(new)


def test_version_in_other_hands_stays_and_keeps_no_other_from_being_taken() -> None:
    watch = Watch()
    (held,) = watch.drop(KEYS[0], body=b"held\n")
    (newer,) = watch.drop(KEYS[0], body=b"newer\n")
    claim = watch.claim(held, "manual__1")
    for files in ((newer,), (newer,)):
        taken = watch.intake.take()
        assert (taken.files, [left.busy for left in taken.left]) == (files, [True])
    watch.claim(newer, run_id(newer))
    assert watch.intake.take().files == (), "its run has begun"
    watch.claims.complete(claim, "receipts/held.json")
    watch.claims.complete(watch.claim(newer, run_id(newer)), "receipts/newer.json")
    assert (watch.intake.take().left, watch.s3.present("incoming/")) == ((), [])


def test_other_keys_that_begin_alike_are_other_files() -> None:
    watch = Watch()
    files = watch.drop("incoming/a", "incoming/a.txt", "incoming/a/b", body=b"x\n")
    files += watch.drop("incoming/a", "incoming/a.txt", body=b"y\n")
    assert set(watch.intake.take().files) == set(files)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "claim", "claim while put", "delete fails"]), st.integers(0, 2)),
    max_size=25,
)


@given(STEPS, st.sampled_from([1, 1000]))
def test_every_dropped_version_is_claimed_once_whatever_the_order(
    steps: list[tuple[str, int]], changes_per_second: int
) -> None:
    """``changes_per_second``: S3 tells the order of versions and deletions by the second only."""
    watch = Watch()
    watch.s3.changes_per_second = changes_per_second
    number, claimed = 0, list[FileVersion]()
    waiting: dict[str, list[FileVersion]] = {key: [] for key in KEYS}

    def put(key: str) -> None:
        nonlocal number
        number += 1
        waiting[key].append(FileVersion(BUCKET, key, watch.s3.drop(key, b"%d\n" % number)))

    def claim() -> None:
        expected = {key: list(files) for key, files in waiting.items()}
        found = watch.intake.take()
        assert found.left == ()
        for key, files in expected.items():
            mine = [file for file in found.files if file.key == key and file not in claimed]
            assert mine[: len(files)] == files, "oldest first, and none is left out"
            assert set(mine) <= set(waiting[key])
            waiting[key] = [file for file in waiting[key] if file not in mine]
        claimed.extend(file for file in found.files if file not in claimed)

    for action, which in steps:
        key = KEYS[which]
        if action == "put":
            put(key)
        elif action == "delete":
            if watch.s3.present(key) and (changes_per_second == 1 or not waiting[key]):
                watch.s3.delete(key)
                waiting[key].clear()
        elif action == "claim while put":

            def interrupt(request: dict[str, Any], key: str = key) -> None:
                del watch.s3.before["DeleteObject"]
                put(key)

            watch.s3.before["DeleteObject"] = interrupt
            claim()
            watch.s3.before.pop("DeleteObject", None)
        else:
            claim()
    claim()
    assert waiting == {key: [] for key in KEYS}
    assert len(claimed) == len(set(claimed))
    for file in claimed:
        assert watch.claims.current(file, run_id(file)).file == file
        assert processing_key(file) in watch.s3.present("processing/")


@pytest.mark.parametrize("changes_per_second", [1, 1000])
def test_deletion_of_the_same_second_loses_no_version(changes_per_second: int) -> None:
    watch = Watch()
    watch.s3.changes_per_second = changes_per_second
    (first,) = watch.drop(KEYS[0], body=b"first\n")
    watch.intake.take()
    later = [watch.drop(KEYS[0], body=b"%d\n" % number)[0] for number in range(2)]
    assert [file for file in watch.intake.take().files if file != first] == later


@pytest.mark.parametrize("end", ["unreadable", "died"])
def test_version_of_an_earlier_run_is_not_claimed_again_when_another_is_dropped(end: str) -> None:
    watch = Watch()
    # Dropped, taken and deleted within one second: the next look finds it beside what is dropped later.
    watch.s3.changes_per_second = 1000
    (bad,) = watch.drop(KEYS[0], body=b"cannot be read\n")
    watch.intake.take()
    watch.time.pass_by(1000)
    claim = watch.claim(bad, "manual__1")
    if end == "unreadable":
        watch.claims.forget(claim)
    watch.time.pass_by(1000)
    (good,) = watch.drop(KEYS[0], body=b"good\n")
    assert watch.intake.take().files == (good,)
    owners = {each.file: each.owner for each in watch.claims.unfinished()}
    assert owners == {good: run_id(good)} | ({bad: "manual__1"} if end == "died" else {})
    watch.claim(bad, "manual__2")


def test_version_that_could_not_be_copied_is_not_deleted_with_a_newer_one_once_its_run_has_begun() -> None:
    watch = Watch()
    (first,) = watch.drop(KEYS[0], body=b"first\n")

    def fail(request: dict[str, Any]) -> None:
        del watch.s3.before["CopyObject"]
        raise s3_error("SlowDown", "CopyObject")

    watch.s3.before["CopyObject"] = fail
    assert len(watch.intake.take().left) == 1
    watch.claim(first, run_id(first))
    (second,) = watch.drop(KEYS[0], body=b"second\n")
    assert watch.intake.take().files == (second,)
    assert bodies(watch, [first, second]) == [b"first\n", b"second\n"]
    assert watch.s3.present("incoming/") == []
