from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

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
from tests.unit.call_details.desk import FILE, Desk, SomeBatch
from tests.worlds.call_details import FakeCallDetails
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import s3_error
from tests.worlds.sqs import QUEUE_URL

REFUSED, ACCEPTED = httpx.Response(422), httpx.Response(200)
LETTER = DeadLetter(FILE, 3, 31, 40, "3", 1, 422, "422 Unprocessable Entity", "2026-03-08T12:00:00+00:00")
POINTER = BodyPointer("ingest", dead_letter_key(FILE, 3), "v1", "0" * 64)


def bury(desk: Desk, *numbers: int) -> None:
    """Let these batches end as dead letters, and the API take them from now on."""
    desk.api.answers = {str(number): [REFUSED] for number in numbers}
    desk.post([SomeBatch(number) for number in numbers], size=100)
    desk.api.answers = {}
    desk.api.posted.clear()


def replay(
    desk: Desk,
    limit: int = 100,
    *,
    dry_run: bool = False,
    workers: int = 3,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> ReplayResult:
    async def run() -> ReplayResult:
        async with desk.client() as api:
            again = Replay(cast("Any", desk.sqs), QUEUE_URL, desk.dead_letters, api, workers=workers, sleep=sleep)
            return await again.run(limit, dry_run=dry_run)

    return asyncio.run(run())


def test_body_is_kept_and_the_message_points_to_it() -> None:
    desk = Desk()
    bury(desk, 3)
    assert desk.s3.bodies(dead_letter_key(FILE, 3)) == [SomeBatch(3).body]
    message = json.loads(desk.sqs.bodies[0])
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
    assert "records" not in desk.sqs.bodies[0].replace("first_record", "").replace("last_record", "")


def test_body_is_there_before_the_message_tells_of_it() -> None:
    desk = Desk()
    desk.sqs.before["send_message"] = lambda: _fail_unless(desk.s3.keys("dead-letter/"))
    bury(desk, 3)
    assert len(desk.sqs.bodies) == 1


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
def test_message_that_is_no_dead_letter_is_told_apart(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no dead letter"):
        from_message(text)


def test_replay_empties_the_queue_under_the_same_keys() -> None:
    desk = Desk()
    bury(desk, *range(25))
    assert replay(desk) == ReplayResult(received=25, accepted=25)
    assert desk.sqs.bodies == []
    assert desk.api.keys == {str(number): 1 for number in range(25)}
    assert {request.content for request in desk.api.posted} == {SomeBatch(number).body for number in range(25)}
    assert replay(desk) == ReplayResult()


def test_replay_takes_no_more_than_it_may() -> None:
    desk = Desk()
    bury(desk, *range(25))
    assert replay(desk, 12) == ReplayResult(received=12, accepted=12)
    assert (len(desk.sqs.bodies), desk.sqs.visible) == (13, 13)


def test_what_is_refused_again_stays_and_can_be_seen_at_once() -> None:
    desk = Desk()
    bury(desk, 1, 2, 3)
    desk.api.answers = {"2": [REFUSED]}
    assert replay(desk) == ReplayResult(received=3, accepted=2, failed=1)
    assert (len(desk.sqs.bodies), desk.sqs.visible) == (1, 1)
    assert desk.api.keys == {"1": 1, "2": 1, "3": 1}, "each message once"


@pytest.mark.parametrize("body", [None, "hello"])
def test_message_that_stays_begins_its_time_anew(body: str | None) -> None:
    desk = Desk()
    bury(desk, 1)
    desk.api.answers = {"1": [REFUSED]}
    ((old, message),) = desk.sqs.messages.items()
    message.body = body or message.body
    there: list[int] = []
    desk.sqs.before["delete_message"] = lambda: there.append(len(desk.sqs.messages))
    replay(desk)
    ((kept, copy),) = desk.sqs.messages.items()
    assert kept != old
    assert copy.body == message.body
    assert there == [2], "whoever dies in between leaves two, and not none"


def test_queue_that_only_repeats_itself_ends_the_replay() -> None:
    desk = Desk()
    bury(desk, 1, 2)
    desk.api.answers = {"1": [REFUSED], "2": [REFUSED]}

    def show() -> None:
        # As a queue does whose visibility time-outs end too early.
        assert desk.sqs.calls["receive_message"] < 5, "it would go on for ever"
        desk.sqs.show_all()

    desk.sqs.before["receive_message"] = show
    assert replay(desk) == ReplayResult(received=2, failed=2)
    assert len(desk.sqs.bodies) == 2


def test_refused_message_whose_copy_cannot_be_sent_stays() -> None:
    desk = Desk()
    bury(desk, 1)
    desk.api.answers = {"1": [REFUSED]}

    def fail() -> None:
        raise table_error("InternalServerError", 500)

    desk.sqs.before["send_message"] = fail
    with pytest.raises(AwsUnavailableError):
        replay(desk)
    assert desk.sqs.visible == 1


def test_dry_run_posts_nothing_and_leaves_everything(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    bury(desk, 1, 2)
    desk.sqs.send_message(QueueUrl=QUEUE_URL, MessageBody="no dead letter")
    messages, logins = list(desk.sqs.messages), len(desk.api.login_requests)
    with caplog.at_level(logging.INFO):
        assert replay(desk, dry_run=True) == ReplayResult(received=3, unreadable=1)
    assert (desk.api.posted, len(desk.api.login_requests), desk.sqs.visible) == ([], logins, 3)
    assert list(desk.sqs.messages) == messages
    assert "batch 2 of incoming/calls.txt" in caplog.text
    assert "{" not in caplog.text, "no bodies in the log"


def test_second_message_of_a_batch_does_no_harm() -> None:
    desk = Desk()
    bury(desk, 1)
    desk.sqs.send_message(QueueUrl=QUEUE_URL, MessageBody=desk.sqs.bodies[0])
    assert replay(desk) == ReplayResult(received=2, accepted=2)
    assert desk.api.keys == {"1": 2}


def test_versions_of_a_file_that_share_a_key_are_told_apart() -> None:
    desk = Desk()
    bury(desk, 1)
    (key,) = desk.s3.keys("dead-letter/")
    desk.s3.put_object(Bucket="ingest", Key=key, Body=b"of another version")
    assert replay(desk) == ReplayResult(received=1, unreadable=1)
    assert desk.api.posted == [], "FakeS3 gives the newest version: its digest is not the letter's"


@pytest.mark.parametrize("harm", ["gone", "no letter"])
def test_unreadable_message_stays_and_does_not_block_the_others(harm: str) -> None:
    desk = Desk()
    bury(desk, 1, 2)
    if harm == "gone":
        desk.s3.delete(dead_letter_key(FILE, 1))
    else:
        next(iter(desk.sqs.messages.values())).body = "hello"
    assert replay(desk) == ReplayResult(received=2, accepted=1, unreadable=1)
    assert desk.sqs.visible == 1


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
    desk = Desk()
    bury(desk, *range(5))

    def fail(*_: object) -> None:
        raise table_error("InternalServerError", 500)

    def deny(*_: object) -> None:
        raise s3_error("AccessDenied")

    if harm == "login":
        desk.api = FakeCallDetails(logins=[httpx.Response(401)])
    elif harm == "long wait":
        asked = httpx.Response(429, headers={"Retry-After": "3600"})
        desk.api.answers = {str(number): [asked] for number in range(5)}
    elif harm == "receive":
        desk.sqs.before["receive_message"] = fail
    elif harm == "delete":
        desk.sqs.before["delete_message"] = fail
    else:
        desk.s3.before["GetObject"] = deny
    with pytest.raises(error):
        replay(desk)
    assert (len(desk.sqs.bodies), desk.sqs.visible) == (5, 5)


def test_messages_stay_hidden_while_their_batches_are_posted() -> None:
    desk = Desk()
    bury(desk, 1)
    ticks = 0

    async def sleep(seconds: float) -> None:
        nonlocal ticks
        assert seconds < VISIBILITY_SECONDS / 2
        ticks += 1
        await asyncio.sleep(0.001)

    async def until_extended_twice() -> None:
        while desk.sqs.extended_to.count(VISIBILITY_SECONDS) < 2:
            await asyncio.sleep(0.001)

    desk.api.pause = until_extended_twice
    assert replay(desk, sleep=sleep) == ReplayResult(received=1, accepted=1)
