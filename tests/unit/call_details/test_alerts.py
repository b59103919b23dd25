import pytest

from include.alerts import MAX_FAILURES, Alert, RunRef, Severity
from include.call_details.alerts import KILLED, left_alert, no_receipt, receipt_alert, replay_alert
from include.call_details.dead_letters import ReplayResult
from include.call_details.reconcile import SavedReceipt
from include.call_details.watcher import LeftFile

RANGE = {
    "start": 0,
    "stop": 9,
    "first_record": 1,
    "records_read": 1000,
    "records_accepted": 1000,
    "records_dead_lettered": 0,
    "batches_read": 2,
    "batches_accepted": 2,
    "batches_dead_lettered": 0,
}
DOCUMENT = {
    "bucket": "ingest",
    "key": "incoming/ä +.txt",
    "etag": "e1",
    "run_id": "run-1",
    "outcome": "processed",
    "error": None,
    "records_read": 2000,
    "records_accepted": 2000,
    "records_dead_lettered": 0,
    "batches_read": 4,
    "batches_accepted": 4,
    "batches_dead_lettered": 0,
    "invalid_bytes": 0,
    "problems": [],
    "ranges": [RANGE, RANGE | {"first_record": 1001}],
    "stored_as": "processed/2026/03/08/e1/ä +.txt",
}


def log_url(task_id: str, map_index: int | None) -> str:
    return f"http://airflow.test/{task_id}/{map_index}"


RUN = RunRef("p", "run-1", log_url)


def alert_of(why: dict[int, str] | None = None, **changes: object) -> Alert | None:
    return receipt_alert(
        SavedReceipt("receipts/1.json", DOCUMENT | changes),
        RunRef("call_details_ingest", DOCUMENT["run_id"], log_url),
        uri="s3://ingest/receipts/1.json",
        why_failed=(why or {}).get,
    )


def test_nothing_is_reported_of_a_file_that_was_accepted_in_full() -> None:
    assert alert_of() is None


def test_invalid_bytes_of_a_posted_file_are_always_a_warning() -> None:
    alert = alert_of(invalid_bytes=1887)
    assert (alert.severity, alert.headline) == (Severity.WARNING, "1,887 bytes of incoming/ä +.txt are not valid UTF-8")
    for fact in ("U+FFFD", "delivered as UTF-8", "UTF-16 with its byte order mark", "s3://ingest/receipts/1.json"):
        assert fact in alert.text


def test_object_that_was_put_in_the_files_place_is_named() -> None:
    alert = alert_of(not_ingested="processing/e1/ä +.txt")
    assert (alert.severity, "another object was put in the place of" in alert.headline) == (Severity.WARNING, True)
    assert "that object is at processing/e1/ä +.txt and was not ingested" in alert.text


def test_dead_letters_and_invalid_bytes_are_one_alert() -> None:
    alert = alert_of(invalid_bytes=2, batches_dead_lettered=3, records_dead_lettered=1200)
    assert "3 of 4 batches of incoming/ä +.txt could not be delivered; 2 bytes of" in alert.headline
    assert "call_details_replay" in alert.text


def test_dead_letters_are_a_warning_with_what_to_do() -> None:
    alert = alert_of(batches_dead_lettered=3, records_dead_lettered=1200)
    assert alert.severity is Severity.WARNING
    assert "3 of 4 batches of incoming/ä +.txt could not be delivered" in alert.text
    for fact in ("1,200 records", "call_details_replay", "s3://ingest/receipts/1.json", "processed/2026", "run-1"):
        assert fact in alert.text


def test_unreadable_file_is_an_error_with_its_reason() -> None:
    alert = alert_of(outcome="unreadable", error="the file is not gzip", stored_as="failed/e1/ä +.txt")
    assert alert.severity is Severity.ERROR
    for fact in ("nothing of incoming/ä +.txt was posted", "the file is not gzip", "failed/e1", "test/plan/None"):
        assert fact in alert.text


def test_file_that_was_not_planned_is_not_called_unreadable() -> None:
    alert = alert_of(outcome="not planned", error="S3 was down", stored_as="processing/e1/ä +.txt")
    for fact in (
        "nothing of incoming/ä +.txt was posted",
        "S3 was down",
        "nothing is lost: clear the run",
        "plan/None",
    ):
        assert fact in alert.text
    gone = alert_of(outcome="not planned", error="it is nowhere", stored_as=None)
    assert "nothing is lost" not in gone.text


def test_file_that_could_not_be_planned_again_is_not_said_to_be_unposted() -> None:
    alert = alert_of(outcome="incomplete", error="S3 was down", records_accepted=1500)
    assert "could not be planned again; 1,500 of its 2,000 records are accounted for" in alert.text
    assert "S3 was down" in alert.text
    assert "was posted" not in alert.text


def test_files_that_cannot_be_taken_are_named_with_their_reasons() -> None:
    left = [LeftFile("incoming/ä.txt", "e1", "cannot move it: S3 answered AccessDenied")]
    text = left_alert(left, RUN).text
    for fact in (
        "files that cannot be taken in and stay where they were dropped: 1",
        "incoming/ä.txt",
        "AccessDenied",
        "test/claim_files/None",
    ):
        assert fact in text


def test_chunks_that_are_not_complete_are_named_with_their_reasons() -> None:
    broken = RANGE | {"batches_accepted": 1, "records_accepted": 500}
    alert = alert_of(
        {0: "AuthRefusedError: keys refused"},
        outcome="incomplete",
        problems=["x"],
        records_accepted=1000,
        ranges=[broken, broken | {"first_record": 1001}],
        stored_as=None,
    )
    assert alert.severity is Severity.ERROR
    assert "only 1,000 of 2,000 records of incoming/ä +.txt are accounted for" in alert.text
    assert "- records 1 to 1,000 in post_chunk[0]: AuthRefusedError: keys refused" in alert.text
    assert f"- records 1,001 to 2,000 in post_chunk[1]: {KILLED}" in alert.text
    assert "test/post_chunk/1" in alert.text
    assert "it is now at" not in alert.text


def test_sum_that_is_wrong_though_all_chunks_are_complete_is_reported() -> None:
    alert = alert_of(outcome="incomplete", problems=["the chunks have 1 records"])
    assert "the chunks have 1 records" in alert.text


def test_only_the_reasons_that_are_shown_are_asked_for() -> None:
    asked: list[int] = []
    alert = receipt_alert(
        SavedReceipt(
            "k",
            DOCUMENT | {"outcome": "incomplete", "problems": ["x"], "ranges": [RANGE | {"batches_accepted": 0}] * 900},
        ),
        RUN,
        uri="l",
        why_failed=lambda index: asked.append(index) or "why",
    )
    assert alert is not None
    assert asked == list(range(MAX_FAILURES))
    assert "and 880 more" in alert.text


@pytest.mark.parametrize(
    ("alert", "reasons"),
    [
        (no_receipt(RUN, reason="settings: ingest_bucket missing"), ["ingest_bucket missing"]),
        (replay_alert(ReplayResult(12, 9, 2, 1), RUN), ["3 of 12 dead letters stay", "2 were refused again"]),
    ],
)
def test_other_alerts_name_run_reason_and_log(alert: Alert, reasons: list[str]) -> None:
    text = alert.text
    assert "ERROR in pipeline p: " in text
    assert "run: run-1" in text
    assert "log: http://airflow.test/" in text
    assert [reason for reason in reasons if reason not in text] == []
