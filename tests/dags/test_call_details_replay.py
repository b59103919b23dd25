import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_ext.hooks import call_details
from airflow_ext.ids import XComKey
from include.call_details.keys import idempotency_key
from include.call_details.models import FileVersion
from include.errors import AuthRefusedError, RunRefusedError, StorageRefusedError, WorkFailedError
from tests.dags.call_details import ingest, ingest_run, replay, replay_run
from tests.worlds.call_details import CallDetailsWorld
from tests.worlds.s3 import BUCKET, raising, s3_error

KEY = "incoming/ä b+.txt"
REFUSED = httpx.Response(422)


@pytest.fixture
def world() -> Iterator[CallDetailsWorld]:
    """Three dead letters."""
    with CallDetailsWorld().attached() as world:
        file = FileVersion(BUCKET, KEY, world.s3.drop(KEY, b"1\n2\n3\n4\n5\n"))
        world.api.answers |= {idempotency_key(file, number): [REFUSED] for number in range(3)}
        ingest(ingest_run(KEY))
        assert len(world.sqs.bodies) == 3
        world.api.posted.clear()
        world.cloudwatch.published.clear()
        world.wire.sns.clear()
        yield world


def test_replay_empties_the_queue(world: CallDetailsWorld) -> None:
    world.api.answers.clear()
    run = replay_run()
    summary = replay(run)
    counts = {"received": 3, "accepted": 3, "failed": 0, "unreadable": 0, "not_found": 0}
    assert summary == {**counts, "dry_run": False}
    assert world.sqs.bodies == []
    assert sorted(world.posted()) == [[1, 2], [3, 4], [5]]
    assert run.pushed("replay", XComKey.NOTE) == [
        "**3 of 3 dead letters posted**", "", "- what to do: nothing",
        "- more: [operations page](http://localhost:8080/plugin/operations/files)",
        "- refused again: 0", "- unreadable: 0",
    ]  # fmt: skip
    assert world.metrics == [
        ("call_details_replay", {"FailedRuns": 0.0, "ReplayedBatches": 3.0, "RefusedBatches": 0.0})
    ]
    assert world.wire.sns == []


def test_chosen_ones_alone_are_posted_and_what_is_gone_is_in_the_note(world: CallDetailsWorld) -> None:
    world.api.answers.clear()
    run = replay_run(dead_letters=[f" dead-letter/{KEY}/000001.json", "gone", ""])
    assert replay(run)["accepted"] == 1
    assert world.posted() == [[3, 4]]
    assert "- not in the queue: 1" in run.pushed("replay", XComKey.NOTE)


def test_blank_lines_alone_do_not_mean_all(world: CallDetailsWorld) -> None:
    with pytest.raises(RunRefusedError, match="dead_letters names none"):
        replay(replay_run(dead_letters=["", " "]))
    assert world.posted() == []


def test_what_is_refused_again_stays_and_is_reported_once(world: CallDetailsWorld) -> None:
    (first, *_) = [json.loads(text)["idempotency_key"] for text in world.sqs.bodies]
    world.api.answers = {first: [REFUSED]}
    run = replay_run()
    with pytest.raises(WorkFailedError, match="1 of 3 dead letters stay in the queue"):
        replay(run)
    assert world.sqs.visible == 1
    (message,) = world.wire.sns
    assert message["Subject"] == "[ERROR] call_details_replay: 1 of 3 dead letters stay in the queue"
    assert run.pushed("replay", "return_value")["accepted"] == 2
    assert run.pushed("replay", XComKey.NOTE)[2] == "- what to do: docs/RUNBOOK.md#call-details-dead-letters"
    assert world.wire.slack[-1]["text"].endswith(
        "\noperations page: http://localhost:8080/plugin/operations/files\n"
        "what to do: docs/RUNBOOK.md#call-details-dead-letters"
    )
    assert run.pushed("replay", XComKey.ALERTED)["channels"] == ["slack", "sns"]
    assert world.metrics[0][1] == {"FailedRuns": 1.0, "ReplayedBatches": 2.0, "RefusedBatches": 1.0}


@pytest.mark.parametrize("chosen", [False, True])
def test_replay_that_has_to_wait_takes_no_more_than_its_limit_and_counts_all_it_took(
    chosen: bool, world: CallDetailsWorld
) -> None:
    world.change_settings(max_concurrent_calls=1)
    names = [json.loads(text)["idempotency_key"] for text in world.sqs.bodies]
    world.api.answers = {names[1]: [httpx.Response(429, headers={"Retry-After": "120"}), httpx.Response(200)]}
    run = replay_run(limit=2, dead_letters=[*names, "gone"] if chosen else None)
    with pytest.raises(AirflowRescheduleException):
        replay(run)
    assert len(world.sqs.bodies) == 2
    summary = replay(run)
    assert (summary["received"], summary["accepted"]) == (2, 2)
    assert summary["not_found"] == (1 if chosen else 0)
    assert len(world.sqs.bodies) == 1
    assert world.metrics[-1][1]["ReplayedBatches"] == 2.0
    assert not [item for item in world.table.items if "replays" in str(item)]


class KilledError(Exception):
    """The task dies: it calls nothing any more."""


@pytest.mark.parametrize("chosen", [False, True])
def test_try_that_was_killed_counts_towards_the_limit_and_what_it_had_received_is_not_gone(
    chosen: bool, world: CallDetailsWorld
) -> None:
    world.change_settings(max_concurrent_calls=1)
    world.api.answers.clear()
    names = [json.loads(text)["idempotency_key"] for text in world.sqs.bodies]
    run = replay_run(limit=2, dead_letters=names if chosen else None)

    def die_at_the_second() -> None:
        if world.sqs.calls["delete_message"] == 2:
            operations = ("receive_message", "delete_message", "change_message_visibility_batch")
            world.sqs.before = dict.fromkeys(operations, raising(KilledError()))
            raise KilledError

    world.sqs.before["delete_message"] = die_at_the_second
    with pytest.raises(KilledError):
        replay(run)
    assert (len(world.sqs.bodies), world.sqs.visible) == (2, 0 if chosen else 1)
    looks = world.sqs.calls["receive_message"]

    def show_at_last() -> None:
        if world.sqs.calls["receive_message"] == looks + 5:
            world.sqs.show_all()

    world.sqs.before = {"receive_message": show_at_last}
    summary = replay(run)
    assert (summary["received"], summary["accepted"], summary["not_found"]) == (2, 2, 0)
    assert len(world.sqs.bodies) == 1
    assert world.metrics[-1][1]["ReplayedBatches"] == 2.0
    assert not [item for item in world.table.items if "replays" in str(item)]


def test_try_that_dies_before_it_has_reported_leaves_that_to_the_next(world: CallDetailsWorld) -> None:
    world.api.answers.clear()
    run = replay_run()
    world.cloudwatch.error = KeyboardInterrupt("killed")
    with pytest.raises(KeyboardInterrupt):
        replay(run)
    world.cloudwatch.error = None
    assert world.sqs.bodies == []
    assert replay(run)["accepted"] == 3
    assert replay(run)["accepted"] == 0, "cleared when it has come to its end, it begins anew"


def test_replay_that_is_cleared_after_it_failed_for_good_counts_what_it_had_posted(world: CallDetailsWorld) -> None:
    world.change_settings(max_concurrent_calls=1)
    world.api.answers.clear()
    run = replay_run()

    def refuse() -> None:
        if world.sqs.calls["delete_message"] == 1:
            world.s3.before["GetObject"] = raising(s3_error("AccessDenied"))

    world.sqs.before["delete_message"] = refuse
    with pytest.raises(StorageRefusedError):
        replay(run)
    world.s3.before.clear()
    assert replay(run)["accepted"] == 3
    assert world.metrics[-1][1]["ReplayedBatches"] == 3.0


def test_login_that_is_refused_leaves_the_queue_as_it_was(world: CallDetailsWorld) -> None:
    call_details._shared_login.cache_clear()
    world.api._logins = [httpx.Response(401)]
    run = replay_run()
    with pytest.raises(AuthRefusedError):
        replay(run)
    assert world.sqs.visible == 3
    assert "AuthRefusedError" in run.pushed("replay", XComKey.FAILURE)


def test_replay_takes_a_quarter_of_the_calls_and_leaves_the_rest_to_files(world: CallDetailsWorld) -> None:
    world.change_settings(max_concurrent_calls=5)
    world.api.answers.clear()
    world.api.most_in_flight = 0

    async def until_two() -> None:
        while world.api.most_in_flight < 2 and len(world.api.posted) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)

    world.api.pause = until_two
    assert replay(replay_run())["accepted"] == 3
    assert world.api.most_in_flight == 2


def test_permits_of_a_replay_are_given_back(world: CallDetailsWorld) -> None:
    world.api.answers.clear()
    replay(replay_run())
    (holders,) = [item["holders"] for item in world.table.items.values() if "holders" in item]
    assert holders == {"M": {}}
