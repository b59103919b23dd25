"""An API that fails: nothing is lost, and what comes twice comes under the same idempotency key."""

import json
from typing import Any

from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, LOGIN, File, Ingest, lines
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Call, Partners, begun
from tests.worlds.live.secrets import Secrets

SIZE = 10
LOGINS_DOWN = 4

FAULTS: dict[int, tuple[list[dict[str, Any]], list[int | str], int]] = {
    0: ([{"count": 2, "status": 500}], [500, 500, 200], 1),
    1: ([{"count": 1, "status": 429, "headers": {"Retry-After": "3"}}], [429, 200], 1),
    # In mid-run, when all other calls have met their faults.
    2: ([{"count": 2, "status": 503}, {"count": 1, "expire_tokens": True}], [503, 503, 401, 200], 1),
    3: ([{"count": 1, "cut": "before"}], ["cut before", 200], 1),
    4: ([{"count": 2, "cut": "before", "applied": True}], ["cut before", "cut before", 200], 3),
    5: ([{"count": 1, "cut": "mid", "applied": True}], ["cut mid", 200], 2),
    6: ([{"count": 1, "status": 504, "applied": True}], [504, 200], 2),
    7: ([{"count": 1, "status": 408}], [408, 200], 1),
    8: ([{"status": 422}], [422], 0),
    9: ([{"status": 503}], [503, 503, 503], 0),
    10: ([], [200], 1),
}
"""By batch: the faults, how its calls end, and how often the API takes it."""

DEAD = {8: (1, 422, "422 Unprocessable"), 9: (3, 503, "503 Service Unavailable")}
"""By batch that cannot be delivered: attempts, last status, error."""


def outcome(call: Call) -> int | str:
    """How a call ended, as its caller saw it."""
    return int(call["status"]) if call["end"] == "answered" else str(call["end"])


def test_fault_that_passes_is_repeated_and_one_that_lasts_costs_its_batch_alone(
    stack: Stack, ingest: Ingest, partners: Partners, inbox: Inbox, secrets: Secrets
) -> None:
    ingest.forget_dead_letters()
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("faults.txt", lines(len(FAULTS) * SIZE - 3, text="of-a-record"), size=SIZE)
    before = partners.last()
    partners.order(
        {"path": LOGIN, "count": LOGINS_DOWN, "status": 503},
        *(file.rule(batch, **fault) for batch, (faults, _, _) in FAULTS.items() for fault in faults),
    )
    run = ingest.pipeline.run(key=file.key)

    assert run.state == "success"
    # The login is tried three times by each attempt of the task.
    assert [task["try_number"] for task in run.mapped.values()] == [2]
    assert [call["status"] for call in partners.calls(LOGIN, since=before)] == [503] * LOGINS_DOWN + [200, 200]
    assert ingest.taken(file) == [taken for _, _, taken in FAULTS.values()]
    calls = calls_by_batch(partners, file, before)
    for batch, (_, expected, _) in FAULTS.items():
        # A token that expired in mid-run costs whoever calls next one more call.
        seen = [outcome(call) for call in calls[batch] if batch == 2 or "rule" in call or call["status"] != 401]
        assert seen == expected, batch
    asked, asked_again = (begun(call) for call in calls[1])
    assert (asked_again - asked).total_seconds() >= 3

    receipt = ingest.assert_processed(file, dead=list(DEAD))
    retries = sum(len(expected) - 1 for _, expected, _ in FAULTS.values()) - 1
    assert (receipt["retries"], receipt["auth_calls"]) == (retries, LOGINS_DOWN + 2)
    (sns,), (_,) = inbox.about(run.id, failed=False)
    assert f"2 of 11 batches of {file.key} could not be delivered" in sns
    assert_dead_letters(ingest, file)


def calls_by_batch(partners: Partners, file: File, since: int) -> dict[int, list[Call]]:
    numbers = {key: batch for batch, key in enumerate(file.batch_keys)}
    found: dict[int, list[Call]] = {batch: [] for batch in numbers.values()}
    for call in partners.calls(BATCHES, since=since):
        found[numbers[call["query"]["idempotencyKey"]]].append(call)
    return found


def assert_dead_letters(ingest: Ingest, file: File) -> None:
    """Each refused batch is in the bucket as it was posted, and a message points to it that holds no record."""
    messages = {message["batch"]: message for message in ingest.dead_letters()}
    assert set(messages) == set(DEAD)
    for batch, (attempts, status, error) in DEAD.items():
        message, records = messages[batch], file.batches[batch]
        place = {"bucket": file.bucket, "key": f"dead-letter/{file.key}/{batch:06d}.json"}
        assert message["body"].items() >= place.items()
        assert message["file"] == {"bucket": file.bucket, "key": file.key, "etag": file.etag}
        assert message["first_record"] == batch * SIZE + 1
        assert message["last_record"] == batch * SIZE + len(records)
        assert message["idempotency_key"] == file.batch_key(batch)
        assert (message["attempts"], message["last_status"]) == (attempts, status)
        assert error in message["error"]
        assert begun({"at": message["first_failed_at"]}).tzinfo is not None
        assert "of-a-record" not in json.dumps(message)
        body = ingest.get(place["key"])["Body"].decode()
        assert body.startswith(f'{{"records":[{",".join(records)}],"timestamp":"')
        assert body.endswith(f'Z","batchSize":{len(records)}}}')
