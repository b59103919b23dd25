from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.keys import OWN_PREFIXES
from include.call_details.storage import FileStore, StoredFile
from include.errors import FileChangedError, StorageRefusedError, StorageUnavailableError
from tests.worlds.s3 import BUCKET, FakeIngestBucket, raising, s3_error, unreachable

ODD = "incoming/März +1&x=%20/ä b\u2028.txt"


@pytest.fixture
def s3() -> FakeIngestBucket:
    return FakeIngestBucket()


def store_of(s3: FakeIngestBucket, **options: Any) -> FileStore:
    return FileStore(s3, BUCKET, **options)


def seen(store: FileStore, key: str) -> StoredFile:
    found = store.head(key)
    assert found is not None
    return found


def test_all_pages_are_listed(s3: FakeIngestBucket) -> None:
    for number in range(7):
        s3.drop(f"incoming/{number}.txt", b"x")
    s3.drop("processing/0.txt", b"x")
    assert [found.key for found in store_of(s3).listed("incoming/")] == [
        f"incoming/{number}.txt" for number in range(7)
    ]


def test_whole_bucket_is_listed_past_what_the_project_keeps_in_it(s3: FakeIngestBucket) -> None:
    files = ["a.txt", "dead-letter", "m/b.txt", "processed0.txt", "x/receipts/c.txt", "zü.txt"]
    for key in files:
        s3.drop(key, b"x")
    for number in range(100):
        for own in OWN_PREFIXES:
            s3.drop(f"{own}{number}ü", b"x")
    assert [found.key for found in store_of(s3).listed("")] == files
    assert s3.calls["pages"] <= len(files) + len(OWN_PREFIXES), "two keys make a page"


def test_file_is_moved_with_its_metadata(s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"a\n", delivered_by="partner")
    store = store_of(s3)
    moved = store.move(seen(store, ODD), "processing/1")
    assert s3.present() == ["processing/1"]
    assert (moved, s3.body("processing/1")) == (seen(store, "processing/1"), b"a\n")
    assert s3.head_object(Bucket=BUCKET, Key="processing/1")["Metadata"] == {"delivered_by": "partner"}


def test_move_to_where_it_lies_does_nothing(s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"a\n")
    store = store_of(s3)
    assert store.move(seen(store, ODD), ODD) == seen(store, ODD)
    assert s3.calls["CopyObject"] == 0


@pytest.mark.parametrize("broken", ["CopyObject", "DeleteObject"])
def test_move_that_broke_off_is_finished_by_the_next(broken: str, s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"a\n")
    store = store_of(s3)
    s3.before[broken] = raising(s3_error("SlowDown", broken))
    with pytest.raises(StorageUnavailableError):
        store.move(seen(store, ODD), "processing/1")
    assert ODD in s3.present(), "a file is never nowhere"
    del s3.before[broken]
    store.move(seen(store, ODD), "processing/1")
    assert s3.present() == ["processing/1"]


@pytest.mark.parametrize("when", ["CopyObject", "DeleteObject"])
def test_file_that_is_overwritten_meanwhile_is_two_files(when: str, s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"old")
    store = store_of(s3)
    source = seen(store, ODD)

    def overwrite(request: dict[str, Any]) -> None:
        del s3.before[when]
        s3.drop(ODD, b"new")

    s3.before[when] = overwrite
    store.move(source, "processing/1")
    assert (s3.body("processing/1"), s3.body(ODD)) == (b"old", b"new")


def test_version_that_is_gone_for_good_cannot_be_moved(s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"old")
    store = store_of(s3)
    source = seen(store, ODD)
    s3.objects.clear()
    with pytest.raises(FileChangedError, match="before it could be moved"):
        store.move(source, "processing/1")


def test_without_versions_only_the_etag_tells_the_file(s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"old")
    source = StoredFile(ODD, seen(store_of(s3), ODD).etag, 3)
    s3.drop(ODD, b"new")
    with pytest.raises(FileChangedError):
        store_of(s3).move(source, "processing/1")
    assert s3.present() == [ODD]


def test_large_file_is_copied_in_parts_and_keeps_what_describes_it(s3: FakeIngestBucket) -> None:
    s3.drop(ODD, b"0123456789", delivered_by="partner")
    store = store_of(s3, largest_copy=9)
    moved = store.move(seen(store, ODD), "processing/1")
    assert s3.calls["copy"] == 1
    assert moved == seen(store, "processing/1")
    assert s3.head_object(Bucket=BUCKET, Key="processing/1")["Metadata"] == {"delivered_by": "partner"}
    assert s3.present() == ["processing/1"]


@pytest.mark.parametrize("code", ["412", "404"])
def test_large_file_that_is_replaced_before_its_copy_is_a_changed_file(code: str, s3: FakeIngestBucket) -> None:
    """The copy in parts begins with a HEAD, whose answer has no body: botocore knows no code but the status."""
    s3.drop(ODD, b"0123456789")
    store = store_of(s3, largest_copy=9)
    source = seen(store, ODD)
    s3.before["CopyObject"] = raising(s3_error(code, "HeadObject"))
    with pytest.raises(FileChangedError, match="was deleted or replaced before it could be moved"):
        store.move(source, "processing/1")


def test_newest_kept_version_is_known_after_the_file_was_moved(s3: FakeIngestBucket) -> None:
    store = store_of(s3)
    assert store.last_etag(ODD) is None
    s3.drop(f"{ODD}.other", b"other")
    s3.drop(ODD, b"old")
    s3.drop(ODD, b"new")
    newest = seen(store, ODD).etag
    s3.delete(ODD)
    assert store.head(ODD) is None
    assert store.last_etag(ODD) == newest


@given(body=st.binary(max_size=60), block=st.integers(1, 20), ends=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_blocks_are_the_bytes_in_between(body: bytes, block: int, ends: tuple[int, int]) -> None:
    s3 = FakeIngestBucket()
    s3.drop("k", body)
    store = store_of(s3, block_bytes=block)
    start, stop = sorted(min(end, len(body)) for end in ends)
    blocks = list(store.blocks("k", seen(store, "k").etag, start, stop))
    assert b"".join(blocks) == body[start:stop]
    assert all(0 < len(each) <= block for each in blocks)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_file_that_changes_while_it_is_read_is_reported(change: str, s3: FakeIngestBucket) -> None:
    s3.drop("k", b"0123456789")
    store = store_of(s3, block_bytes=5)
    blocks = store.blocks("k", seen(store, "k").etag, 0, 10)
    assert next(blocks) == b"01234"
    if change == "deleted":
        s3.delete("k")
    else:
        s3.drop("k", b"abcdefghij")
    with pytest.raises(FileChangedError, match="put it back"):
        next(blocks)


@pytest.mark.parametrize(
    ("error", "expected"), [(s3_error("AccessDenied"), StorageRefusedError), (unreachable(), StorageUnavailableError)]
)
def test_errors_of_s3_are_typed(error: Exception, expected: type[Exception], s3: FakeIngestBucket) -> None:
    s3.drop("k", b"x")
    store = store_of(s3)
    source = seen(store, "k")
    for operation in ("ListObjectsV2", "HeadObject", "ListObjectVersions", "CopyObject", "DeleteObject", "GetObject"):
        s3.before[operation] = raising(error)
    for call in (
        lambda: list(store.listed("incoming/")),
        lambda: store.head("k"),
        lambda: store.last_etag("k"),
        lambda: store.move(source, "other"),
        lambda: store.remove(source),
        lambda: list(store.blocks("k", source.etag, 0, 1)),
    ):
        with pytest.raises(expected):
            call()
