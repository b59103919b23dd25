import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import httpx
import pytest

from include.call_details.dead_letters import (
    VISIBILITY_SECONDS,
    BodyPointer,
    DeadLetter,
    Replay,
    ReplayResult,
    from_message,
    to_message,
)
from include.call_details.keys import dead_letter_key
from include.errors import (
    ApiUnavailableError,
    AuthRefusedError,
    AwsUnavailableError,
    InvalidInputError,
    PipelineError,
    StorageRefusedError,
)
from tests.worlds.call_details import FakeCallDetails
from tests.worlds.call_details_run import FILE, PostingWorld, some_batch
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import raising, s3_error
from tests.worlds.sqs import QUEUE_URL

REFUSED, ACCEPTED = httpx.Response(422), httpx.Response(200)
LETTER = DeadLetter(FILE, 3, 31, 40, "3", 1, 422, "422 Unprocessable Entity", "2026-03-08T12:00:00+00:00")
POINTER = BodyPointer("ingest", dead_letter_key(FILE, 3), "v1", "0" * 64)


@pytest.fixture
def world() -> PostingWorld:
    return PostingWorld()


def refuse(world: PostingWorld, *numbers: int) -> None:
    """Let these batches end as dead letters, and the API take them from now on."""
    world.api.answers = {str(number): [REFUSED] for number in numbers}
    world.post([some_batch(number) for number in numbers], size=100)
    world.api.answers = {}
    world.api.posted.clear()


def replay(
    world: PostingWorld,
    limit: int = 100,
    *,
    chosen: Sequence[str] = (),
    dry_run: bool = False,
    workers: int = 3,
    note: Callable[[int], object] = print,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> ReplayResult:
    async def run() -> ReplayResult:
        async with world.client() as api:
            again = Replay(world.dead_letters, api, workers=workers, note=note, sleep=sleep)
            return await again.run(limit, chosen=chosen, dry_run=dry_run)

    return asyncio.run(run())


def test_body_is_kept_and_the_message_points_to_it(world: PostingWorld) -> None:
    refuse(world, 3)
    assert world.s3.bodies(dead_letter_key(FILE, 3)) == [some_batch(3).body]
    message = json.loads(world.sqs.bodies[0])
    assert datetime.fromisoformat(message.pop("first_failed_at")).tzinfo
    assert message.pop("body") | {"sha256": ""} == {
        "bucket": "ingest",
        "key": dead_letter_key(FILE, 3),
        "version_id": "v1",
        "sha256": "",
    }
    assert message == {
        "file": {"bucket": "ingest", "key": "incoming/calls.txt", "etag": '"e1"'},
        "batch": 3,
        "first_record": 31,
        "last_record": 40,
        "idempotency_key": "3",
        "attempts": 1,
        "last_status": 422,
        "error": "422 Unprocessable Entity",
    }
    assert "records" not in world.sqs.bodies[0].replace("first_record", "").replace("last_record", "")


def test_body_is_there_before_the_message_tells_of_it(world: PostingWorld) -> None:
    world.sqs.before["send_message"] = lambda: _fail_unless(world.s3.keys("dead-letter/"))
    refuse(world, 3)
    assert len(world.sqs.bodies) == 1


def _fail_unless(found: object) -> None:
    assert found


def test_message_reads_back_what_was_written() -> None:
    nothing_known = replace(LETTER, last_status=None, error=None, first_failed_at=None)
    odd_key = replace(LETTER, file=replace(FILE, key="incoming/ä +\u2028\"'.txt"))
    for letter in (LETTER, nothing_known, odd_key):
        for pointer in (POINTER, replace(POINTER, version_id=None)):
            assert from_message(to_message(letter, pointer)) == (letter, pointer)


def test_message_is_ascii_whatever_the_key_holds() -> None:
    odd_key = replace(LETTER, file=replace(FILE, key="incoming/ä\uffff\ud800.txt"))
    text = to_message(odd_key, POINTER)
    assert text.isascii(), "SQS refuses U+FFFF, and half a surrogate pair cannot be sent"
    assert from_message(text) == (odd_key, POINTER)


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"body": {}}', '{"body": 1, "file": 2}', "[" * 100_000])
def test_message_that_is_no_dead_letter_is_distinguished(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no dead letter"):
        from_message(text)


def test_replay_empties_the_queue_under_the_same_keys(world: PostingWorld) -> None:
    refuse(world, *range(25))
    assert replay(world) == ReplayResult(received=25, accepted=25)
    assert world.sqs.bodies == []
    assert world.api.keys == {str(number): 1 for number in range(25)}
    assert {request.content for request in world.api.posted} == {some_batch(number).body for number in range(25)}
    assert replay(world) == ReplayResult()


def test_replay_takes_no_more_than_it_may(world: PostingWorld) -> None:
    refuse(world, *range(25))
    assert replay(world, 12) == ReplayResult(received=12, accepted=12)
    assert (len(world.sqs.bodies), world.sqs.visible) == (13, 13)


def test_what_is_refused_again_stays_and_can_be_seen_at_once(world: PostingWorld) -> None:
    refuse(world, 1, 2, 3)
    world.api.answers = {"2": [REFUSED]}
    assert replay(world) == ReplayResult(received=3, accepted=2, failed=1)
    assert (len(world.sqs.bodies), world.sqs.visible) == (1, 1)
    assert world.api.keys == {"1": 1, "2": 1, "3": 1}, "each message once"


@pytest.mark.parametrize("body", [None, "hello"])
def test_message_that_stays_begins_its_time_anew(body: str | None, world: PostingWorld) -> None:
    refuse(world, 1)
    world.api.answers = {"1": [REFUSED]}
    ((old, message),) = world.sqs.messages.items()
    message.body = body or message.body
    there: list[int] = []
    world.sqs.before["delete_message"] = lambda: there.append(len(world.sqs.messages))
    replay(world)
    ((kept, copy),) = world.sqs.messages.items()
    assert kept != old
    assert copy.body == message.body
    assert there == [2], "whoever dies in between leaves two, and not none"


def test_chosen_ones_alone_are_posted_and_the_others_can_be_read_at_once(caplog: pytest.LogCaptureFixture) -> None:
    world = PostingWorld()
    refuse(world, *range(25))
    with caplog.at_level(logging.WARNING):
        result = replay(world, chosen=["3", dead_letter_key(FILE, 20), "gone"])
    assert result == ReplayResult(received=2, accepted=2, not_found=1)
    assert sorted(request.headers["Idempotency-Key"] for request in world.api.posted) == ["20", "3"]
    assert (len(world.sqs.bodies), world.sqs.visible) == (23, 23)
    assert "not in the queue, or not any more: gone" in caplog.text


def test_chosen_one_that_is_refused_again_stays(world: PostingWorld) -> None:
    refuse(world, 1, 2)
    world.api.answers = {"2": [REFUSED]}
    assert replay(world, chosen=["2"]) == ReplayResult(received=1, failed=1)
    assert (len(world.sqs.bodies), world.sqs.visible) == (2, 2)


def test_no_more_of_the_chosen_are_posted_than_the_limit(world: PostingWorld) -> None:
    refuse(world, 1, 2, 3)
    assert replay(world, 2, chosen=["1", "2", "3"]) == ReplayResult(received=2, accepted=2)
    assert world.sqs.visible == 1


def test_chosen_ones_that_the_limit_leaves_are_not_called_gone(world: PostingWorld) -> None:
    refuse(world, *range(25))
    assert replay(world, 1, chosen=["0", "24", "gone"]) == ReplayResult(received=1, accepted=1, not_found=1)
    assert (len(world.sqs.bodies), world.sqs.visible) == (24, 24)


@pytest.mark.parametrize("chosen", [[], ["0", "1", "2"]])
def test_messages_that_a_try_had_received_which_died_are_waited_for(chosen: list[str], world: PostingWorld) -> None:
    refuse(world, 0, 1, 2)
    world.dead_letters.take(2)

    def show_at_last() -> None:
        if world.sqs.calls["receive_message"] == 10:
            world.sqs.show_all()

    world.sqs.before["receive_message"] = show_at_last
    assert replay(world, chosen=chosen) == ReplayResult(received=3, accepted=3)


def test_messages_that_others_hide_for_good_are_waited_for_as_long_as_a_dead_try_would_hide_them() -> None:
    world = PostingWorld()
    refuse(world, 0)
    world.dead_letters.take(1)
    assert replay(world) == ReplayResult()
    assert world.sqs.calls["receive_message"] - 1 == VISIBILITY_SECONDS / 2, "each look takes SQS two seconds"


def test_replay_notes_what_it_has_posted_and_deleted_and_no_less_than_dies_with_its_workers(
    world: PostingWorld,
) -> None:
    refuse(world, *range(25))
    notes, deleted = list[int](), list[int]()

    def note(accepted: int) -> None:
        notes.append(accepted)
        deleted.append(25 - len(world.sqs.bodies))

    replay(world, note=note)
    assert notes == sorted(notes)
    assert notes[-1] == 25
    assert all(0 <= gone - noted <= 3 for gone, noted in zip(deleted, notes, strict=True))


def test_queue_that_only_repeats_itself_ends_the_replay(world: PostingWorld) -> None:
    refuse(world, 1, 2)
    world.api.answers = {"1": [REFUSED], "2": [REFUSED]}

    def show() -> None:
        # As a queue does whose visibility time-outs end too early.
        assert world.sqs.calls["receive_message"] < 5, "it would go on for ever"
        world.sqs.show_all()

    world.sqs.before["receive_message"] = show
    assert replay(world) == ReplayResult(received=2, failed=2)
    assert len(world.sqs.bodies) == 2


def test_refused_message_whose_copy_cannot_be_sent_stays(world: PostingWorld) -> None:
    refuse(world, 1)
    world.api.answers = {"1": [REFUSED]}
    world.sqs.before["send_message"] = raising(table_error("InternalServerError", 500))
    with pytest.raises(AwsUnavailableError):
        replay(world)
    assert world.sqs.visible == 1


def test_dry_run_posts_nothing_and_leaves_everything(caplog: pytest.LogCaptureFixture, world: PostingWorld) -> None:
    refuse(world, 1, 2)
    world.sqs.send_message(QueueUrl=QUEUE_URL, MessageBody="no dead letter")
    messages, logins = list(world.sqs.messages), len(world.api.login_requests)
    with caplog.at_level(logging.INFO):
        assert replay(world, dry_run=True) == ReplayResult(received=3, unreadable=1)
    assert (world.api.posted, len(world.api.login_requests), world.sqs.visible) == ([], logins, 3)
    assert list(world.sqs.messages) == messages
    assert "batch 2 of incoming/calls.txt" in caplog.text
    assert "{" not in caplog.text, "no bodies in the log"


def test_second_message_of_a_batch_does_no_harm(world: PostingWorld) -> None:
    refuse(world, 1)
    world.sqs.send_message(QueueUrl=QUEUE_URL, MessageBody=world.sqs.bodies[0])
    assert replay(world) == ReplayResult(received=2, accepted=2)
    assert world.api.keys == {"1": 2}


def test_versions_of_a_file_that_share_a_key_are_distinguished(world: PostingWorld) -> None:
    refuse(world, 1)
    (key,) = world.s3.keys("dead-letter/")
    world.s3.put_object(Bucket="ingest", Key=key, Body=b"of another version")
    assert replay(world) == ReplayResult(received=1, accepted=1)
    assert world.api.keys == {"1": 1}, "the newest version is no batch"


def test_body_that_is_not_the_one_that_was_kept_is_never_posted(world: PostingWorld) -> None:
    refuse(world, 1)
    (key,) = world.s3.keys("dead-letter/")
    world.s3.objects[key] = [replace(version, body=b"[]") for version in world.s3.objects[key]]
    assert replay(world) == ReplayResult(received=1, unreadable=1)
    assert world.api.posted == []


@pytest.mark.parametrize("harm", ["gone", "no letter", "of another bucket", "of other types"])
def test_unreadable_message_stays_and_does_not_block_the_others(harm: str, world: PostingWorld) -> None:
    refuse(world, 1, 2)
    if harm == "gone":
        del world.s3.objects[dead_letter_key(FILE, 1)]
    else:
        message = next(iter(world.sqs.messages.values()))
        letter = json.loads(message.body)
        message.body = {
            "no letter": "hello",
            "of another bucket": json.dumps(letter | {"body": letter["body"] | {"bucket": "somebody-elses"}}),
            "of other types": json.dumps(letter | {"idempotency_key": None, "first_record": "1"}),
        }[harm]
    assert replay(world) == ReplayResult(received=2, accepted=1, unreadable=1)
    assert world.sqs.visible == 1


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        ("login", AuthRefusedError),
        ("long wait", ApiUnavailableError),
        ("receive", AwsUnavailableError),
        ("delete", AwsUnavailableError),
        ("s3", StorageRefusedError),
    ],
)
def test_failure_that_is_not_the_batchs_shows_all_messages_again(harm: str, error: type[PipelineError]) -> None:
    world = PostingWorld()
    refuse(world, *range(5))
    fail = raising(table_error("InternalServerError", 500))
    if harm == "login":
        world.api = FakeCallDetails(logins=[httpx.Response(401)])
    elif harm == "long wait":
        asked = httpx.Response(429, headers={"Retry-After": "3600"})
        world.api.answers = {str(number): [asked] for number in range(5)}
    elif harm == "receive":
        world.sqs.before["receive_message"] = fail
    elif harm == "delete":
        world.sqs.before["delete_message"] = fail
    else:
        world.s3.before["GetObject"] = raising(s3_error("AccessDenied"))
    with pytest.raises(error):
        replay(world)
    assert (len(world.sqs.bodies), world.sqs.visible) == (5, 5)


def test_messages_stay_hidden_while_their_batches_are_posted(world: PostingWorld) -> None:
    refuse(world, 1)
    ticks = 0

    async def sleep(seconds: float) -> None:
        nonlocal ticks
        assert seconds < VISIBILITY_SECONDS / 2
        ticks += 1
        await asyncio.sleep(0.001)

    async def until_extended_twice() -> None:
        while world.sqs.extended_to.count(VISIBILITY_SECONDS) < 2:
            await asyncio.sleep(0.001)

    world.api.pause = until_extended_twice
    assert replay(world, sleep=sleep) == ReplayResult(received=1, accepted=1)
