from __future__ import annotations

import json
from datetime import date

import pytest

from include.archive.models import NO_OUTCOME, Client, Manifest, Outcome, Plan, Result, Slice, account

PLAN = Plan(
    "run 1",
    0,
    date(2026, 3, 8),
    False,
    16,
    "",
    tuple(Client(number, f"Client {number}") for number in (1, 2, 3, 4)),
    (Slice(0, 2, "1-2"), Slice(2, 3, "3"), Slice(3, 4, "4")),
)
ONE = Outcome(1, Result.ARCHIVED, "trigger/1/1_trigger_20260308.json", "aa", 2, "v1")
TWO = Outcome(2, Result.FAILED, error="DEX API answered 404")
THREE = Outcome(3, Result.UNCHANGED, "trigger/3/3_trigger_20260308.json", "cc", 4, "v3")
FOUR = Outcome(4, Result.UPDATED, "trigger/4/4_trigger_20260308.json", "dd", 5, "v4")


def silent(index: int) -> None:
    return None


def test_document_has_the_contract_s_fields() -> None:
    document = account(PLAN, [[ONE, TWO], [THREE], [FOUR]], why_no_outcome=silent).to_document()
    assert json.loads(json.dumps(document)) == {
        "trigger_date": "2026-03-08",
        "run_id": "run 1",
        "total_clients": 4,
        "successful_archives": 3,
        "failed_archives": 1,
        "unchanged": 1,
        "errors": [{"client_id": 2, "client_name": "Client 2", "error": "DEX API answered 404"}],
        "clients": [
            {
                "client_id": outcome.client_id,
                "key": outcome.key,
                "sha256": outcome.sha256,
                "bytes": outcome.bytes,
                "version_id": outcome.version_id,
                "outcome": word,
            }
            for outcome, word in [
                (ONE, "archived"),
                (TWO, "failed"),
                (THREE, "unchanged"),
                (FOUR, "updated"),
            ]
        ],
    }


def test_outcomes_are_put_into_the_order_of_the_plan() -> None:
    manifest = account(PLAN, [[TWO, ONE], [THREE], [FOUR]], why_no_outcome=silent)
    assert [outcome.client_id for outcome in manifest.outcomes] == [1, 2, 3, 4]


@pytest.mark.parametrize(("known", "error"), [("SettingsError: x", "SettingsError: x"), (None, NO_OUTCOME)])
def test_client_without_outcome_has_failed(known: str | None, error: str) -> None:
    asked: list[int] = []

    def why(index: int) -> str | None:
        asked.append(index)
        return known

    manifest = account(PLAN, [[ONE], [THREE], []], why_no_outcome=why)
    assert [(failure.client_id, failure.error) for failure in manifest.failures] == [(2, error), (4, error)]
    assert asked == [0, 2], "each lookup is a call to Airflow's API"


def test_outcome_of_a_client_that_is_not_planned_counts_nothing() -> None:
    stray = Outcome(99, Result.ARCHIVED)
    manifest = account(PLAN, [[ONE, stray, TWO], [THREE], [FOUR]], why_no_outcome=silent)
    assert manifest.counts["total_clients"] == 4


def test_missing_slice_is_an_error_and_not_a_short_manifest() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        account(PLAN, [[ONE, TWO]], why_no_outcome=silent)


def test_no_clients_at_all() -> None:
    empty = Plan("run 1", 0, date(2026, 3, 8), False, 16, "", (), ())
    counts = Manifest(empty, ()).counts
    assert set(counts.values()) == {0}


def test_summary_leaves_out_the_line_per_client() -> None:
    manifest = account(PLAN, [[ONE, TWO], [THREE], [FOUR]], why_no_outcome=silent)
    assert set(manifest.to_document()) - set(manifest.summary()) == {"clients"}
