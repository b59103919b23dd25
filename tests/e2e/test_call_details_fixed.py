"""Runs that fail for what a person has to correct: alerted once, and once corrected and cleared they do the rest."""

from local.stack.description import Stack
from tests.worlds.live.call_details import Ingest, lines
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

BATCHES_IN_FLIGHT = 4
"""Of one task, where four calls are allowed at once: it may make two of them, and two batches more wait for their
acknowledgement."""
REFUSED = 1


def test_a_file_deleted_in_mid_run_and_a_queue_that_is_gone(
    stack: Stack, ingest: Ingest, partners: Partners, inbox: Inbox, secrets: Secrets
) -> None:
    ingest.forget_dead_letters()
    queue = stack.call_details_dlq_url
    secrets.change(
        stack.settings_variable, max_records_per_batch=1, max_concurrent_calls=4, call_details_dlq_url=f"{queue}-gone"
    )
    # Read in blocks of 4 MiB: the second one when the first one is nearly posted.
    wide = b"".join(f"{number:0100000}\n".encode() for number in range(90))
    deleted = ingest.drop("deleted.txt", wide, size=1)
    unburied = ingest.drop("unburied.txt", lines(6), size=1)
    partners.order(unburied.rule(REFUSED, status=422), deleted.rule(latency_ms=200))
    deleted_id, unburied_id = ingest.start(deleted), ingest.start(unburied)
    wait_until(lambda: any(ingest.taken(deleted)), what="the first batch of the file that is to be deleted")
    place = f"processing/{deleted.etag}/deleted.txt"
    ingest.s3.delete_object(Bucket=ingest.name, Key=place)
    runs = {file: ingest.pipeline.ended(run_id) for file, run_id in ((deleted, deleted_id), (unburied, unburied_id))}

    reasons = {
        deleted: f"FileChangedError: s3://{ingest.name}/{place} was deleted or replaced while it was being read",
        unburied: f"AwsRefusedError: cannot send to {queue}-gone",
    }
    for file, run in runs.items():
        assert run.state == "failed"
        assert [task["try_number"] for task in run.tasks] == [1, 1, 1]
        receipt = ingest.receipt(file)
        assert receipt["outcome"] == "incomplete"
        assert receipt["records_accepted"] < receipt["records_read"] == len(file.records)
        (sns,), (slack,) = inbox.about(run.id)
        told = f"only {receipt['records_accepted']} of {len(file.records)} records of {file.key} are accounted for"
        assert told in sns
        assert reasons[file] in sns
        assert reasons[file].partition(":")[0] in slack
    assert ingest.receipt(deleted)["stored_as"] is None
    assert ingest.receipt(unburied)["stored_as"] == f"processing/{unburied.etag}/unburied.txt"

    partners.order(unburied.rule(REFUSED, status=422))
    secrets.change(stack.settings_variable, call_details_dlq_url=queue)
    ingest.drop("deleted.txt", wide)
    for run in runs.values():
        ingest.pipeline.clear(run.id)
    assert [ingest.pipeline.ended(run.id).state for run in runs.values()] == ["success", "success"]
    ingest.assert_processed(deleted)
    ingest.assert_processed(unburied, dead=[REFUSED])
    for file, times in ((deleted, ingest.taken(deleted)), (unburied, ingest.taken(unburied))):
        assert [batch for batch, number in enumerate(times) if number == 0] == ([REFUSED] if file is unburied else [])
        assert sum(times) - len(times) <= BATCHES_IN_FLIGHT
    (message,) = ingest.dead_letters()
    assert message["idempotency_key"] == unburied.batch_key(REFUSED)
    assert ingest.keys("incoming/") == ingest.keys("processing/") == []
