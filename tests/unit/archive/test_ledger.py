import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.archive.keys import ledger_key
from include.archive.ledger import Entry, Ledger, SavedManifest, sha256
from include.errors import StorageUnavailableError
from tests.worlds.s3 import FakeS3, Version, s3_error

NOW = datetime.now(UTC)


def saved(run: str) -> SavedManifest:
    return SavedManifest(f"manifests/trigger/20260308/{run}.json", f"version of {run}", sha256(run.encode()), NOW)


def ledger(s3: FakeS3) -> Ledger:
    return Ledger(s3, "archive")


def append(s3: FakeS3, run: str, manifest: str = "") -> Entry:
    """What an attempt does that finds its manifest there."""
    return ledger(s3).append(run, "2026-03-08", saved(manifest or run), ledger(s3).newest())


def entries(s3: FakeS3) -> list[Entry]:
    found = [s3.bodies(key) for key in s3.keys("ledger/trigger/")]
    assert all(len(versions) == 1 for versions in found), "an entry was rewritten"
    return [Entry.from_bytes(versions[0] or b"") for versions in found]


def assert_chained(found: list[Entry]) -> None:
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    digests = [None, *(sha256(entry.to_bytes()) for entry in found)]
    assert [entry.previous for entry in found] == digests[:-1]


def test_each_run_gets_the_next_number_and_the_digest_of_the_entry_before() -> None:
    s3 = FakeS3()
    for number in range(1, 12):
        entry = append(s3, f"run {number}")
        assert entry.number == number
    found = entries(s3)
    assert_chained(found)
    assert found[3].manifest == "manifests/trigger/20260308/run 4.json"
    assert s3.keys("ledger/")[0] == "ledger/trigger/00000001.json"


def test_repeated_attempt_finds_its_entry_behind_those_of_other_runs() -> None:
    s3 = FakeS3()
    first = append(s3, "a")
    for other in "bcd":
        append(s3, other)
    assert append(s3, "a") == first
    assert len(entries(s3)) == 4


def test_cleared_run_with_another_manifest_gets_another_entry() -> None:
    s3 = FakeS3()
    append(s3, "a")
    append(s3, "a", "a, cleared")
    found = entries(s3)
    assert_chained(found)
    assert len(found) == 2


def test_runs_that_end_at_once_all_get_in() -> None:
    s3 = FakeS3()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda run: append(s3, run), "abcdefgh"))
    found = entries(s3)
    assert_chained(found)
    assert {entry.run_id for entry in found} == set("abcdefgh")


def test_write_whose_answer_was_lost_is_found_by_the_retry() -> None:
    s3 = FakeS3()
    real = s3.put_object

    def lose(**request: Any) -> dict[str, Any]:
        real(**request)
        raise s3_error("InternalError")

    s3.put_object = lose  # type: ignore[method-assign] # the fault of this test
    with pytest.raises(StorageUnavailableError):
        append(s3, "a")
    s3.put_object = real
    assert append(s3, "a").number == 1
    assert len(entries(s3)) == 1


def test_only_entries_younger_than_the_manifest_are_read() -> None:
    s3 = FakeS3()
    for run in "abcdefgh":
        append(s3, run)
    for key in s3.keys("ledger/"):
        s3.objects[key] = [replace(s3.objects[key][0], stored_at=NOW - timedelta(days=1))]
    newest, before = ledger(s3).newest(), s3.calls["GetObject"]
    ledger(s3).append("i", "2026-03-08", saved("i"), newest)
    assert s3.calls["GetObject"] - before == 1


@pytest.mark.parametrize("known", [0, 3])
@pytest.mark.parametrize("together", [1, 8])
def test_manifest_that_was_saved_just_now_gets_one_entry_behind_the_newest_that_was_known(
    known: int, together: int
) -> None:
    """Also when other runs end meanwhile, and when two attempts of the same run do."""
    s3 = FakeS3()
    for number in range(known):
        append(s3, f"before {number}")
    newest = ledger(s3).newest()
    just_now = replace(saved("a"), saved_at=None)
    runs = ["a"] * together + [f"other {number}" for number in range(together)]
    with ThreadPoolExecutor(len(runs)) as threads:
        found = list(
            threads.map(lambda run: ledger(s3).append(run, None, just_now if run == "a" else saved(run), newest), runs)
        )
    assert_chained(entries(s3))
    assert len({entry.number for entry in found if entry.run_id == "a"}) == 1
    assert len(entries(s3)) == known + 1 + together


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 5500])
def test_newest_entry_is_found_with_few_requests_also_when_something_else_lies_there(count: int) -> None:
    s3 = FakeS3()
    for number in range(1, count + 1):
        s3.objects[ledger_key(number)] = [Version("v", b"")]
    for key in ("ledger/trigger/", "ledger/trigger/00000000.txt", "ledger/trigger/notes.json"):
        s3.objects[key] = [Version("v", b"")]
    assert ledger(s3).last() == count
    assert s3.calls.total() <= 3 + 2 * count // 1000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.replace(b'"number":1', b'"number": 1'),
        lambda body: body + b" ",
        lambda body: json.dumps({**json.loads(body), "extra": 1}).encode(),
        lambda body: b"[]",
        lambda body: b"",
    ],
)
def test_bytes_that_no_entry_has_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    s3 = FakeS3()
    body = ledger(s3).append("a", None, saved("a"), ledger(s3).newest()).to_bytes()
    assert Entry.from_bytes(body).trigger_date is None
    with pytest.raises(ValueError):  # noqa: PT011 - each fault has a text of its own
        Entry.from_bytes(spoil(body))


def test_numbers_lie_in_the_order_of_their_keys() -> None:
    assert sorted(map(ledger_key, (2, 10, 99_999_999))) == list(map(ledger_key, (2, 10, 99_999_999)))
