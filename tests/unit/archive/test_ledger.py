from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from include.archive.keys import ledger_key
from include.archive.ledger import Entry, Ledger, SavedManifest, sha256
from include.errors import StorageUnavailableError
from tests.worlds.s3 import FakeS3, s3_error

NOW = datetime.now(UTC)


def saved(run: str) -> SavedManifest:
    return SavedManifest(f"manifests/trigger/20260308/{run}.json", f"version of {run}", sha256(run.encode()), NOW)


def ledger(s3: FakeS3) -> Ledger:
    return Ledger(cast("Any", s3), "archive")


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
        entry = ledger(s3).append(f"run {number}", "2026-03-08", saved(f"run {number}"))
        assert entry.number == number
    found = entries(s3)
    assert_chained(found)
    assert found[3].manifest == "manifests/trigger/20260308/run 4.json"
    assert s3.keys("ledger/")[0] == "ledger/trigger/00000001.json"


def test_repeated_attempt_finds_its_entry_behind_those_of_other_runs() -> None:
    s3 = FakeS3()
    first = ledger(s3).append("a", "2026-03-08", saved("a"))
    for other in "bcd":
        ledger(s3).append(other, "2026-03-08", saved(other))
    assert ledger(s3).append("a", "2026-03-08", saved("a")) == first
    assert len(entries(s3)) == 4


def test_cleared_run_with_another_manifest_gets_another_entry() -> None:
    s3 = FakeS3()
    ledger(s3).append("a", "2026-03-08", saved("a"))
    ledger(s3).append("a", "2026-03-08", saved("a, cleared"))
    found = entries(s3)
    assert_chained(found)
    assert len(found) == 2


def test_runs_that_end_at_once_all_get_in() -> None:
    s3 = FakeS3()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda run: ledger(s3).append(run, "2026-03-08", saved(run)), "abcdefgh"))
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
        ledger(s3).append("a", "2026-03-08", saved("a"))
    s3.put_object = real  # type: ignore[method-assign]
    assert ledger(s3).append("a", "2026-03-08", saved("a")).number == 1
    assert len(entries(s3)) == 1


def test_only_entries_younger_than_the_manifest_are_read() -> None:
    s3 = FakeS3()
    for run in "abcdefgh":
        ledger(s3).append(run, "2026-03-08", saved(run))
    for key in s3.keys("ledger/"):
        s3.objects[key] = [replace(s3.objects[key][0], stored_at=NOW - timedelta(days=1))]
    before = s3.calls["GetObject"]
    ledger(s3).append("i", "2026-03-08", saved("i"))
    assert s3.calls["GetObject"] - before == 1


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
    body = ledger(s3).append("a", None, saved("a")).to_bytes()
    assert Entry.from_bytes(body).trigger_date is None
    with pytest.raises(ValueError):  # noqa: PT011 - each fault has a text of its own
        Entry.from_bytes(spoil(body))


def test_numbers_lie_in_the_order_of_their_keys() -> None:
    assert sorted(map(ledger_key, (2, 10, 99_999_999))) == list(map(ledger_key, (2, 10, 99_999_999)))
