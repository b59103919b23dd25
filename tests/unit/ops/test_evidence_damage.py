"""Each damage is one line that says what and where; what it leaves unproven is at most one more."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.archive.keys import ledger_key
from include.archive.ledger import Entry, SavedManifest, sha256
from include.archive.manifests import Manifests
from include.clients.s3 import json_bytes
from ops.evidence import Scope, Verification
from tests.worlds.evidence import CLIENTS, FIRST, archive, three_days
from tests.worlds.s3 import VersionedBucket, WithoutVersions

ENTRY, ANSWER = "ledger/trigger/00000001.json", "trigger/2/2_trigger_20260301.json"
RUN, DAY = "manifests/trigger/20260301/run%200.json", "manifests/trigger/20260301.json"
LAST_RUN, LAST_ENTRY = "manifests/trigger/20260303/run%202.json", "ledger/trigger/00000003.json"
ITS_ANSWERS = ("added", "3 answers of 2026-03-01")

Damage = Callable[[VersionedBucket], object]


def gone(key: str) -> Damage:
    return lambda s3: s3.objects.pop(key)


def hidden(key: str) -> Damage:
    return lambda s3: s3.delete(key)


def put(key: str, body: bytes = b"{}") -> Damage:
    return lambda s3: s3.put_object(Bucket=s3.bucket, Key=key, Body=body)


def changed(key: str, **fields: object) -> Damage:
    """Other fields in the same version, in the form that runs write."""

    def change(s3: VersionedBucket) -> None:
        (version,) = s3.objects[key]
        body = json_bytes(json.loads(version.body or b"") | fields)
        s3.objects[key] = [replace(version, body=body + b"\n" if key.startswith("ledger/") else body)]

    return change


def found(s3: VersionedBucket, scope: Scope | None = None) -> list[tuple[str, str]]:
    """Kind and place of each finding, without the versions' ids."""
    findings = Verification(s3, s3.bucket, scope or Scope()).run()[0]
    return [(finding.kind, re.sub(r" \(\w+\)$", "", finding.where)) for finding in findings]


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (gone(ANSWER), [("missing", ANSWER)]),
        (hidden(ANSWER), [("missing", ANSWER)]),
        (changed(ANSWER, client=3), [("changed", ANSWER)]),
        (put(ANSWER), [("added", ANSWER)]),
        (gone(RUN), [("missing", RUN), ITS_ANSWERS]),
        (hidden(RUN), [("missing", RUN)]),
        (changed(RUN, total_clients=4), [("changed", RUN), ITS_ANSWERS]),
        (put(RUN), [("added", RUN)]),
        (put("manifests/trigger/20260301/forged.json"), [("added", "manifests/trigger/20260301/forged.json")]),
        (put("manifests/trigger/notes.txt"), [("added", "manifests/trigger/notes.txt")]),
        (gone(DAY), [("missing", DAY)]),
        (hidden(DAY), [("missing", DAY)]),
        (changed(DAY, total_clients=4), [("changed", DAY)]),
        (put(DAY, b'{"runs": []}'), [("changed", DAY)]),
        (put("manifests/trigger/20260401.json"), [("added", "manifests/trigger/20260401.json")]),
        (gone(ENTRY), [("missing", ENTRY), ("added", RUN), ITS_ANSWERS]),
        (hidden(ENTRY), [("missing", ENTRY)]),
        (put(ENTRY), [("rewritten", ENTRY)]),
        (changed(ENTRY, run_id="run 7"), [("rewritten", ENTRY)]),
        (changed(ENTRY, number=7), [("rewritten", ENTRY)]),
        (changed(ENTRY, sha256="0" * 64), [("rewritten", ENTRY), ITS_ANSWERS]),
        (changed(ENTRY, trigger_date="1 March"), [("rewritten", ENTRY), ("added", RUN), ITS_ANSWERS]),
        (put("ledger/trigger/00000000.json"), [("added", "ledger/trigger/00000000.json")]),
        # Of the newest entry and its manifest, either may be what changed.
        (
            changed(LAST_RUN, total_clients=4),
            [("changed", LAST_RUN), ("changed", LAST_ENTRY), ("added", "3 answers of 2026-03-03")],
        ),
        (changed(LAST_ENTRY, run_id="run 7"), [("changed", LAST_ENTRY)]),
        (
            changed(LAST_ENTRY, previous="0" * 64),
            [("rewritten", "ledger/trigger/00000002.json"), ("rewritten", LAST_ENTRY)],
        ),
    ],
)  # fmt: skip
def test_damage_is_found_where_it_was_done_and_nothing_else_is_blamed(
    s3: VersionedBucket, damage: Damage, lines: list[tuple[str, str]]
) -> None:
    damage(s3)
    assert found(s3) == lines


@pytest.mark.parametrize(
    ("changes", "rewritten"),
    [
        ({2: {"previous": "0" * 64}}, [2]),
        ({4: {"run_id": "run 9"}}, [4]),
        # Of those before an entry that changed, nobody knows any more which of two it was.
        ({2: {"run_id": "run 9"}, 4: {"run_id": "run 9"}}, [4, 2, 3]),
    ],
)
def test_entry_that_later_ones_vouch_against_is_the_one_that_changed(
    changes: dict[int, dict[str, str]], rewritten: list[int]
) -> None:
    s3 = VersionedBucket()
    for number in range(6):
        archive(s3, f"run {number}", FIRST + timedelta(days=number), {1: b"{}"})
    for number, fields in changes.items():
        changed(ledger_key(number), **fields)(s3)
    assert found(s3) == [("rewritten", ledger_key(number)) for number in rewritten]


def test_answers_of_a_run_of_which_nothing_is_left_are_not_taken_for_older_ones(s3: VersionedBucket) -> None:
    for key in (ENTRY, RUN):
        gone(key)(s3)
    answers = [("added", f"trigger/{client}/{client}_trigger_20260301.json") for client in CLIENTS]
    assert found(s3) == [("missing", ENTRY), ("added", DAY), *answers]


@pytest.mark.parametrize("fields", [{"version_id": "v999"}, {"sha256": "0" * 64}, {"run_id": "run 9"}])
def test_day_that_names_its_run_otherwise_than_the_ledger_is_found(s3: VersionedBucket, fields: dict[str, str]) -> None:
    (run,) = json.loads(s3.bodies(DAY)[-1] or b"")["runs"]
    changed(DAY, runs=[run | fields])(s3)
    assert found(s3) == [("changed", DAY)]


@pytest.mark.parametrize("scope", [Scope(first=FIRST + timedelta(days=1)), Scope(last=FIRST - timedelta(days=1))])
@pytest.mark.parametrize("key", [RUN, "manifests/trigger/20260301/forged.json", "manifests/trigger/20260228.json"])
def test_manifest_of_a_day_that_was_not_asked_for_is_left(s3: VersionedBucket, key: str, scope: Scope) -> None:
    put(key)(s3)
    if scope.covers_day("2026-02-28") and "20260228" in key:
        assert found(s3, scope) == [("added", key)]
    else:
        assert found(s3, scope) == []


def test_day_s_manifest_of_before_the_ledger_needs_no_run() -> None:
    s3, key = VersionedBucket(), "manifests/trigger/20250101.json"
    put(key)(s3)
    assert found(s3) == [], "of an archive without a ledger"
    s3.objects[key] = [replace(s3.objects[key][0], stored_at=datetime.now(UTC) - timedelta(days=400))]
    three_days(s3)
    assert found(s3) == []
    put(key)(s3)
    assert found(s3) == [("added", key)]


def day_of_before_the_ledger() -> VersionedBucket:
    """A day of two clients, archived before the ledger began; since then a run has archived one of them again."""
    s3 = VersionedBucket()
    archive(s3, "old", FIRST, {1: b"{}", 2: None})
    old = json.loads(s3.bodies(DAY)[0] or b"")
    del old["runs"]
    s3.objects.clear()
    put(DAY, json_bytes(old))(s3)
    s3.objects[DAY] = [replace(s3.objects[DAY][0], stored_at=datetime.now(UTC) - timedelta(days=400))]
    archive(s3, "repair", FIRST, {2: b"[2]"})
    return s3


def test_run_of_before_the_ledger_counts_as_what_its_day_s_manifest_was_then() -> None:
    s3 = day_of_before_the_ledger()
    assert [run["manifest"] is None for run in json.loads(s3.bodies(DAY)[-1] or b"")["runs"]] == [True, False]
    assert found(s3) == []
    old = s3.objects[DAY].pop(0)
    assert found(s3) == [("changed", DAY)], "nobody can tell any more"
    s3.objects[f"{DAY}.old"] = [old]
    assert found(s3) == [("added", f"{DAY}.old"), ("changed", DAY)], "another key is no version of it"


@pytest.mark.parametrize("begun_before", [True, False])
def test_run_of_before_the_ledger_is_no_cover_for_other_lines(s3: VersionedBucket, begun_before: bool) -> None:
    s3 = day_of_before_the_ledger() if begun_before else s3
    day = json.loads(s3.bodies(DAY)[-1] or b"")
    day["clients"][0] |= {"sha256": "0" * 64, "outcome": "archived"}
    if not begun_before:
        day["runs"].insert(0, {"run_id": "old", "manifest": None, "sha256": None})
    put(DAY, json_bytes(day))(s3)
    assert found(s3) == [("changed", DAY)]


@pytest.mark.parametrize("folder", ["manifests/trigger/20260301", "runs/trigger/20260301"])
def test_day_that_merges_a_run_without_an_entry_is_found(s3: VersionedBucket, folder: str) -> None:
    key = f"{folder}/forged.json"
    document = json.loads(s3.bodies(RUN)[0] or b"") | {"run_id": "forged"}
    put(key, json_bytes(document))(s3)
    saved = SavedManifest(key, s3.objects[key][0].id, sha256(json_bytes(document)))
    Manifests(s3, s3.bucket).merge_day(FIRST, document, saved)
    assert found(s3) == [("added", key if folder.startswith("manifests/") else DAY)]


def test_summary_that_was_killed_before_its_entry_and_then_ended_otherwise_is_no_damage(s3: VersionedBucket) -> None:
    document = json.loads(s3.bodies(RUN)[0] or b"") | {"run_id": "killed"}
    manifests = Manifests(s3, s3.bucket)
    manifests.merge_day(FIRST, document, manifests.save_run(FIRST, "killed", document))
    assert found(s3) == [("added", "manifests/trigger/20260301/killed.json")]
    archive(s3, "killed", FIRST, {2: b'{"client": 2}'})
    assert found(s3) == []


def forged(s3: VersionedBucket, **fields: object) -> None:
    """A newest entry, and its manifest, that somebody wrote; each field is one of the line of client 2."""
    (manifest,), (entry,) = s3.objects[LAST_RUN], s3.objects[LAST_ENTRY]
    document = json.loads(manifest.body or b"")
    document["clients"][1] |= fields
    body = json_bytes(document)
    s3.objects[LAST_RUN] = [replace(manifest, body=body)]
    s3.objects[LAST_ENTRY] = [
        replace(entry, body=replace(Entry.from_bytes(entry.body or b""), sha256=sha256(body)).to_bytes())
    ]
    del s3.objects["manifests/trigger/20260303.json"]


LAST_ANSWER = "trigger/2/2_trigger_20260303.json"
NO_DAY = ("missing", "manifests/trigger/20260303.json")
UNKNOWN = ("added", LAST_ANSWER)


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"key": "trigger/2/none.json"}, [("missing", "trigger/2/none.json"), UNKNOWN]),
        ({"key": "\ud800"}, [("changed", LAST_RUN)]),
        ({"key": ["list"]}, [("missing", "['list']"), UNKNOWN]),
        ({"version_id": "none of ours"}, [("missing", f"{LAST_ANSWER} (none of ours)"), UNKNOWN]),
        ({"version_id": {}, "sha256": None}, [("changed", LAST_ANSWER)]),
        ({"client_id": 10**30}, []),
        ({"client_id": "2"}, [("changed", LAST_RUN)]),
        ({"client_id": float("inf")}, [("changed", LAST_RUN)]),
    ],
)
def test_line_of_any_shape_is_a_finding_and_no_crash(
    s3: VersionedBucket, fields: dict[str, Any], lines: list[tuple[str, str]]
) -> None:
    forged(s3, **fields)
    lines_found = [line for line in found(s3) if line != NO_DAY]
    # Of a manifest that nobody can read, the answers are one more.
    assert lines_found[: 1 if lines == [("changed", LAST_RUN)] else None] == lines


def test_missing_answer_is_not_proven_by_a_line_without_a_digest(s3: VersionedBucket) -> None:
    forged(s3, sha256=None)
    del s3.objects[LAST_ANSWER]
    assert ("missing", LAST_ANSWER) in found(s3)


def test_two_entries_that_contradict_each_other_are_not_both_proven(s3: VersionedBucket) -> None:
    line = json.loads(s3.bodies(RUN)[0] or b"")["clients"][1]
    forged(s3, **line | {"sha256": "0" * 64})
    assert ("changed", ANSWER) in found(s3)


def test_client_s_id_may_be_of_any_size() -> None:
    s3 = VersionedBucket()
    for number in range(3):
        archive(
            s3, f"run {number}", FIRST + timedelta(days=number), {1: b"{}"} | ({10**20: b"{}"} if number != 1 else {})
        )
    assert found(s3) == [("not selected", f"client {10**20}, 2026-03-02")]


def test_day_whose_run_selected_nobody_is_one_line() -> None:
    s3 = VersionedBucket()
    for number in range(3):
        archive(
            s3, f"run {number}", FIRST + timedelta(days=number), {} if number == 1 else dict.fromkeys(CLIENTS, b"{}")
        )
    assert found(s3) == [("not selected", "2026-03-02")]
    assert found(s3, Scope(client=2)) == [("not selected", "2026-03-02")]
    assert found(s3, Scope(client=9)) == []


def test_day_of_which_a_manifest_is_lost_lacks_no_clients(s3: VersionedBucket) -> None:
    archive(s3, "repair", FIRST + timedelta(days=1), {2: b"[2]"})
    del s3.objects["manifests/trigger/20260302/run%201.json"]
    assert found(s3) == [("missing", "manifests/trigger/20260302/run%201.json"), ("added", "3 answers of 2026-03-02")]


def test_cleared_run_in_a_bucket_without_versions_is_not_held_against_itself() -> None:
    s3 = WithoutVersions()
    for body in (b"[1]", b"[2]"):
        archive(s3, "nightly", FIRST, {1: body})
    (line,) = json.loads(s3.bodies(DAY)[-1] or b"")["clients"]
    assert line["sha256"] == sha256(b"[2]")


def test_bucket_without_versions_is_proven_as_long_as_nothing_was_replaced() -> None:
    s3 = WithoutVersions()
    three_days(s3)
    archive(s3, "again", FIRST, {1: b'{"client": 1}', 2: b'{"client": 2}'})
    assert json.loads(s3.bodies(RUN)[0] or b"")["clients"][0]["version_id"] is None
    assert found(s3) == []
    put("trigger/9/9_trigger_20260301.json")(s3)
    assert found(s3) == [("added", "trigger/9/9_trigger_20260301.json")]
    del s3.objects["trigger/9/9_trigger_20260301.json"]
    put(ANSWER)(s3)
    assert found(s3) == [("changed", ANSWER)]
    del s3.objects[ANSWER]
    assert found(s3) == [("missing", ANSWER)]
