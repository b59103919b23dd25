"""The first answer of each view where there is much: 10,000 clients and 365 days, 1,000 owners, 5,000 files a day."""

import json
from datetime import date, timedelta
from typing import Any

import pytest

from airflow_ext.operations.reading import MOST_CALLS, ROWS, Source
from airflow_ext.outside import outside
from benchmarks.operations_views import Recording
from include.archive.keys import archive_key, manifest_key
from include.auction.keys import summary_key
from include.call_details.keys import plan_key, processed_key, processing_key, receipt_key
from include.call_details.ledger import Claims
from include.call_details.models import Chunk, Claim, FileVersion, Plan
from include.clients.dynamodb import ItemTable
from include.clients.s3 import put_json
from tests.worlds.dynamodb import TABLE, event_item
from tests.worlds.operations import NOW, TODAY, OperationsPage
from tests.worlds.s3 import FakeS3

CLIENTS, DAYS, FILES, AUCTIONS, OWNERS = 10_000, 365, 5_000, 288, 1_000
CLIENT, WITHOUT_ANSWERS = 1003, 9_999_999
PAGE = 1000
ANSWERS = {
    "/evidence/clients?q=100": ("rows", ROWS),
    f"/evidence/clients/{CLIENT}": ("days", DAYS),
    f"/evidence/clients/{WITHOUT_ANSWERS}": ("days", DAYS),
    f"/evidence/clients/{CLIENT}/days/{TODAY}": ("versions", 1),
    "/days": ("days", 342),
    f"/days/{TODAY}": ("rows", ROWS),
    "/files/waiting": ("rows", ROWS),
    "/files/under-way": ("rows", ROWS),
    "/files/done?day={files_day}": ("rows", ROWS),
    "/files/dead-letters": ("rows", 0),
    f"/orders?day={TODAY}": ("rows", ROWS),
    "/events/owners": ("rows", ROWS),
    "/events/owner?owner=owner%200001": ("rows", 8),
    "/tonight": ("dead_letters", 2),
}
"""What an answer has to hold by its path, and how many of it."""


class LargeBucket(FakeS3):
    """Lists in pages, and only what lies below the prefix of a client, a day or the like: never all answers."""

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        found = super().list_objects_v2(**{**request, "MaxKeys": 10**9})["Contents"]
        assert request["Prefix"].count("/") > 1 or not request["Prefix"].startswith("trigger/"), request
        start = int(request.get("ContinuationToken", 0))
        more = {"IsTruncated": True, "NextContinuationToken": str(start + PAGE)} if len(found) > start + PAGE else {}
        return {"Contents": found[start : start + PAGE], **more}


def put(s3: Any, key: str, document: Any, **metadata: str) -> None:
    s3.put_object(Bucket="archive", Key=key, Body=json.dumps(document).encode(), Metadata=metadata)


def fill_archive(s3: Any) -> None:
    counts = {"total_clients": CLIENTS, "successful_archives": CLIENTS - 1, "failed_archives": 1, "unchanged": 0}
    for back in range(DAYS):
        day = TODAY - timedelta(days=back)
        put(s3, archive_key(CLIENT, day), [back])
        lines = [
            {"client_id": 1000 + number, "client_name": "x", "bytes": 3, "outcome": "archived", "run_id": "r"}
            for number in range(CLIENTS if back == 0 else 1)
        ]
        document = {"trigger_date": str(day), **counts, "errors": [], "clients": lines, "runs": []}
        put(s3, manifest_key(day), document, **{name: str(value) for name, value in counts.items()})


def fill_auctions(s3: Any, day: date) -> None:
    for number in range(AUCTIONS):
        run = f"scheduled__{day}T{number // 12:02d}:{number % 12 * 5:02d}:00+00:00"
        rejected = [{"index": 1, "order_id": f"{number}", "result": "rejected", "reason": "x"}]
        counts = {"total": 2, "accepted": 1, "rejected": 1, "errored": 0}
        put_json(s3, "archive", summary_key(day, run), {"run_id": run, **counts, "not_accepted": rejected})


def fill_files(s3: Any, day: date) -> None:
    for number in range(FILES):
        file = FileVersion("archive", f"incoming/{number:05d}.txt", f"{number:032x}")
        s3.put_object(Bucket="archive", Key=processed_key(file, day), Body=b"1")
        put_json(s3, "archive", receipt_key(file), {"outcome": "processed", "key": file.key})
        s3.put_object(Bucket="archive", Key=f"incoming/waiting {number:05d}.txt", Body=b"1")


def claim_files(s3: Any, dynamodb: Any) -> None:
    claims = Claims(ItemTable(dynamodb, TABLE), clock=lambda: NOW)
    for number in range(30):
        file = FileVersion("archive", f"incoming/under way {number}.txt", "e1")
        claim = claims.claim(file, f"run {number}", begun=True)
        assert isinstance(claim, Claim)
        chunks = (Chunk(0, 0, 1, 1, 5000, 0, 10),)
        plan = Plan(file, processing_key(file), "e1", 9, False, 500, "t", 5_000, 9, 0, chunks)
        put_json(s3, "archive", plan_key(file, 1), plan.to_document())
        claims.note_plan(claim, plan_key(file, 1))


@pytest.fixture
def large_page(page: OperationsPage) -> OperationsPage:
    page.s3 = LargeBucket()
    fill_archive(page.s3)
    fill_auctions(page.s3, TODAY)
    # The fake dates what is stored by the clock.
    fill_files(page.s3, page.s3.objects[manifest_key(TODAY)][0].stored_at.date())
    claim_files(page.s3, page.tables.ledger)
    tables = page.tables.events
    for number in range(OWNERS):
        tables.subscribe(f"owner {number:04d}")
    # Those of whom the first page tells; the table is asked about one owner at a time.
    for number in range(ROWS):
        owner = f"owner {number:04d}"
        tables.add(*(event_item(10 * number + each, owner, created=NOW - 600 + each) for each in range(8)))
    return page


def test_first_answer_of_each_view_takes_at_most_200_calls_and_reads_at_most_200_objects(
    large_page: OperationsPage,
) -> None:
    files_day = large_page.s3.objects[manifest_key(TODAY)][0].stored_at.date()
    for path, (holds, number) in ANSWERS.items():
        recording = Recording()
        clients = {"s3": large_page.s3, "dynamodb": large_page.tables, "sqs": large_page.sqs}
        counted = {service: recording.client(client) for service, client in clients.items()}
        with outside.replaced(aws=counted):
            large_page.app.state.source = Source()
            answer = large_page.ask(path.format(files_day=files_day))
        assert answer.status_code == 200, answer.text
        assert len(answer.json().get(holds, "")) == number, f"{path}: {answer.text[:500]}"
        assert int(answer.headers["x-aws-calls"]) <= MOST_CALLS, path
        assert recording.objects <= 200, path
