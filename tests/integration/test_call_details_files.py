"""Files of the ingest bucket on the emulator: listings, moves and reads that the fake only claims to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.call_details.storage import FileStore, StoredFile
from include.errors import FileChangedError

if TYPE_CHECKING:
    from tests.integration.conftest import Aws

BUCKET = "ingest-files-of-this-test"
KEY = "incoming/März +1&x=%20/{{ 7 * 7 }} ä.txt"
TARGET = "processing/e1/März +1&x=%20.txt"


@pytest.fixture(scope="module")
def bucket(aws: Aws) -> str:
    aws.s3.create_bucket(Bucket=BUCKET)
    aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return BUCKET


@pytest.fixture
def store(aws: Aws, bucket: str) -> FileStore:
    """The bucket, with one file in it."""
    for key in (KEY, TARGET):
        aws.s3.delete_object(Bucket=bucket, Key=key)
    aws.s3.put_object(Bucket=bucket, Key=KEY, Body=b"0123456789", Metadata={"by": "partner"})
    return FileStore(aws.s3, bucket, block_bytes=4)


def seen(store: FileStore, key: str = KEY) -> StoredFile:
    found = store.head(key)
    assert found is not None
    return found


def test_file_is_listed_looked_at_and_read_in_blocks(store: FileStore) -> None:
    assert [found.key for found in store.listed("incoming/")] == [KEY]
    source = seen(store)
    assert list(store.blocks(KEY, source.etag, 0, source.size)) == [b"0123", b"4567", b"89"]
    assert b"".join(store.blocks(KEY, source.etag, 3, 6)) == b"345"


def test_file_is_moved_with_its_metadata(aws: Aws, store: FileStore) -> None:
    source = seen(store)
    moved = store.move(source, TARGET)
    assert (seen(store, TARGET), store.head(KEY)) == (moved, None)
    assert moved.etag == source.etag
    assert aws.s3.head_object(Bucket=BUCKET, Key=TARGET)["Metadata"] == {"by": "partner"}
    assert store.last_etag(KEY) == source.etag, "known after it was moved"
    with pytest.raises(FileChangedError):
        next(store.blocks(KEY, source.etag, 0, 1))


def test_file_overwritten_after_it_was_claimed_is_two_files(aws: Aws, store: FileStore) -> None:
    source = seen(store)
    aws.s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"newer")
    store.move(source, TARGET)
    assert b"".join(store.blocks(TARGET, seen(store, TARGET).etag, 0, 10)) == b"0123456789"
    assert seen(store).size == 5, "the newer one stays"
    with pytest.raises(FileChangedError):
        next(store.blocks(KEY, source.etag, 0, 1))


def test_versions_are_listed_oldest_first_since_the_last_deletion(aws: Aws, store: FileStore) -> None:
    store.remove(seen(store))
    assert store.versions(KEY) == []
    # S3 tells times by the second: what was put in the second of the deletion is listed, too.
    for body in (b"1", b"22", b"333"):
        aws.s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)
    aws.s3.put_object(Bucket=BUCKET, Key=f"{KEY}.other", Body=b"another file")
    found = store.versions(KEY)
    assert [version.size for version in found][-3:] == [1, 2, 3]
    assert found[-1] == seen(store)
    moved = store.move(found[-3], TARGET)
    assert b"".join(store.blocks(TARGET, moved.etag, 0, 1)) == b"1"
    assert seen(store).size == 3, "the newest one stays"
    aws.s3.delete_object(Bucket=BUCKET, Key=f"{KEY}.other")


def test_newer_file_is_not_removed_in_place_of_the_older(aws: Aws, store: FileStore) -> None:
    source = seen(store)
    aws.s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"newer")
    store.remove(source)
    assert seen(store).size == 5
    store.remove(seen(store))
    store.remove(source)
    assert store.head(KEY) is None
