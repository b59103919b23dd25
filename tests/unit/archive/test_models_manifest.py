import json
from datetime import date

from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, Slice

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
ONE = ClientOutcome(1, Result.ARCHIVED, "trigger/1/1_trigger_20260308.json", "aa", 2, "v1")
TWO = ClientOutcome(2, Result.FAILED, error="DEX API answered 404")
THREE = ClientOutcome(3, Result.UNCHANGED, "trigger/3/3_trigger_20260308.json", "cc", 4, "v3")
FOUR = ClientOutcome(4, Result.UPDATED, "trigger/4/4_trigger_20260308.json", "dd", 5, "v4")


MANIFEST = Manifest(PLAN, (ONE, TWO, THREE, FOUR))


def test_document_has_the_contract_s_fields() -> None:
    assert json.loads(json.dumps(MANIFEST.to_document())) == {
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
                "client_name": f"Client {outcome.client_id}",
                "key": outcome.key,
                "sha256": outcome.sha256,
                "bytes": outcome.bytes,
                "version_id": outcome.version_id,
                "outcome": word,
                "run_id": "run 1",
            }
            for outcome, word in [(ONE, "archived"), (TWO, "failed"), (THREE, "unchanged"), (FOUR, "updated")]
        ],
    }


def test_manifest_without_clients_counts_nothing() -> None:
    empty = Plan("run 1", 0, date(2026, 3, 8), False, 16, "", (), ())
    counts = Manifest(empty, ()).counts
    assert set(counts.values()) == {0}
