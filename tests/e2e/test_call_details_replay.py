"""Dead letters come again, beside files that are ingested: no more calls at once than the API allows."""

from collections import Counter

from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, Ingest, lines, most_at_once
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.secrets import Secrets

SIZE, REFUSED, LIMIT = 2, 30, 5
AT_ONCE = 50
FILES = 3
RECORDS, WIDTH = 280, 125_000
"""Of a file, and characters of each: so large a file has more than one chunk."""


def test_replay_empties_the_queue_while_files_are_ingested_and_fifty_calls_are_the_most(
    stack: Stack, ingest: Ingest, replay: Pipeline, partners: Partners, inbox: Inbox, secrets: Secrets
) -> None:
    ingest.forget_dead_letters()
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    refused = ingest.drop("refused.txt", lines(REFUSED * SIZE), size=SIZE)
    partners.order(refused.rule(status=422))
    assert ingest.pipeline.run(key=refused.key).state == "success"
    ingest.assert_processed(refused, dead=range(REFUSED))
    receipts = ingest.listing("receipts/")
    assert len(ingest.dead_letters()) == REFUSED

    # The second waits for the first to end.
    looked_id, tried_id = replay.start(dry_run=True), replay.start(limit=LIMIT)
    before = partners.last()
    looked, tried = replay.ended(looked_id), replay.ended(tried_id)
    assert (looked.state, tried.state) == ("success", "failed")
    log = replay.log(looked.id, "replay")
    assert all(f"would post batch {batch} of {refused.key}" in log for batch in range(REFUSED))
    posted = Counter(call["query"]["idempotencyKey"] for call in partners.calls(BATCHES, since=before))
    assert len(posted) == LIMIT
    assert posted.keys() <= set(refused.batch_keys)
    assert ingest.taken(refused) == [0] * REFUSED
    assert len(ingest.dead_letters()) == REFUSED
    (sns,), (_,) = inbox.about(tried.id)
    assert f"{LIMIT} of {LIMIT} dead letters stay in the queue" in sns

    partners.order({"path": BATCHES, "latency_ms": 1_000})
    before = partners.last()
    secrets.change(stack.settings_variable, max_records_per_batch=1)
    content = b"".join(f"{number:0{WIDTH}}\n".encode() for number in range(RECORDS))
    files = [ingest.drop(f"wide {number}.txt", content, size=1) for number in range(FILES)]
    started = [ingest.start(file) for file in files]
    replayed = replay.run()
    assert replayed.state == "success"
    runs = [ingest.pipeline.ended(run_id) for run_id in started]
    assert [run.state for run in runs] == ["success"] * FILES
    assert all(len(run.mapped) > 1 for run in runs)
    for file in files:
        ingest.assert_processed(file)
        assert set(ingest.taken(file)) == {1}
    assert ingest.taken(refused) == [1] * REFUSED
    assert ingest.dead_letters() == []
    # They wish for more than twice as many.
    assert AT_ONCE - 5 < most_at_once(partners.calls(BATCHES, since=before)) <= AT_ONCE
    assert partners.most_at_once(BATCHES) <= AT_ONCE, "in the whole session"
    assert ingest.listing("receipts/incoming/refused.txt") == [each for each in receipts if "refused.txt" in each.key]
