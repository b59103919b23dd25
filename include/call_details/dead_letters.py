"""Batches that could not be delivered: the body in S3, a message in the queue that points to it, and their replay.

A replay deletes a message only after its batch was accepted. What is refused again is sent again at the end, and only
then is the old message deleted: SQS drops a message 14 days after it was sent, and no longer counts one as the oldest
that was received several times.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

import msgspec

from include.call_details.keys import dead_letter_key
from include.call_details.models import FileVersion
from include.clients.aws import aws_errors
from include.clients.call_details import CallDetailsApi
from include.clients.s3 import get_object, put_object
from include.concurrency import GroupCommit, converted, task_group
from include.errors import InvalidInputError, StorageRefusedError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

VISIBILITY_SECONDS = 120
"""How long a received message stays hidden from others; extended three times as often."""

MOST_LOOKED_AT = 10_000
"""Messages that one replay receives: each is kept hidden until its end, which takes a call for every ten."""

_LOOKS = 3
"""Receiving is asked so often without anything new before the queue counts as seen: SQS answers from some of its
servers at a time."""

_WAIT_SECONDS = 2
_SQS_BATCH = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeadLetter:
    """What is known of an undelivered batch, but for its records.

    Args:
        batch: its number, from 0.
        first_record: number of its first record, from 1; ``last_record`` belongs to it as well.
        last_status: of the last answer; None if there was none.
        error: why it was not accepted, on a short line.
        first_failed_at: ISO 8601.
    """

    file: FileVersion
    batch: int
    first_record: int
    last_record: int
    idempotency_key: str
    attempts: int
    last_status: int | None
    error: str | None
    first_failed_at: str | None


@dataclass(frozen=True)
class BodyPointer:
    """Where the body of an undelivered batch is.

    Args:
        key: two versions of a file share it.
        version_id: tells them apart; None if the bucket keeps no versions.
        sha256: of the body, so that a replay never posts another one under the batch's idempotency key.
    """

    bucket: str
    key: str
    version_id: str | None
    sha256: str


class DeadLetters:
    """The dead letters of one bucket and queue, by boto3 clients that are safe to share between threads."""

    def __init__(self, s3: S3Client, sqs: SQSClient, bucket: str, queue_url: str) -> None:
        self._s3 = s3
        self._sqs = sqs
        self._bucket = bucket
        self._url = queue_url

    def save(self, dead_letter: DeadLetter, body: bytes) -> BodyPointer:
        """Write the body, then send the message. Called again, it sends a second one, which does a replay no harm."""
        key = dead_letter_key(dead_letter.file, dead_letter.batch)
        written = put_object(self._s3, self._bucket, key, body) or {}
        pointer = BodyPointer(self._bucket, key, written.get("VersionId"), hashlib.sha256(body).hexdigest())
        self.send(to_message(dead_letter, pointer))
        return pointer

    def body(self, pointer: BodyPointer) -> bytes:
        """The body that a message points to.

        Raises:
            InvalidInputError: it is gone, or is not the one that was written, or its bucket is not ours and refuses.
            StorageRefusedError: our bucket refuses, and so every body.
        """
        uri = f"s3://{pointer.bucket}/{pointer.key}"
        version: Any = {"VersionId": pointer.version_id} if pointer.version_id else {}
        try:
            found = get_object(self._s3, pointer.bucket, pointer.key, **version)
        except StorageRefusedError as error:
            if pointer.bucket == self._bucket:
                raise
            raise InvalidInputError(str(error)) from error
        if found is None:
            raise InvalidInputError(f"{uri} is gone")
        if hashlib.sha256(found[0]).hexdigest() != pointer.sha256:
            raise InvalidInputError(f"{uri} is not what was written there for this batch")
        return found[0]

    def take(self, most: int) -> list[MessageTypeDef]:
        """Some messages, which are then hidden from others for a while; none if the queue is empty."""
        with aws_errors("SQS", f"receive from {self._url}"):
            received = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(most, _SQS_BATCH),
                VisibilityTimeout=VISIBILITY_SECONDS,
                WaitTimeSeconds=_WAIT_SECONDS,
            )
        return received.get("Messages", [])

    def hidden(self) -> int:
        """About how many messages are hidden."""
        with aws_errors("SQS", f"read attributes of {self._url}"):
            found = self._sqs.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
            )
        return int(found["Attributes"]["ApproximateNumberOfMessagesNotVisible"])

    def send(self, body: str) -> None:
        """Send a message."""
        with aws_errors("SQS", f"send to {self._url}"):
            self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def delete(self, receipt: str) -> None:
        """Delete a message by the receipt of its last delivery."""
        with aws_errors("SQS", f"delete a message of {self._url}"):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)

    def hide(self, receipts: Iterable[str], seconds: int) -> None:
        """Hide messages for some time from now on; 0 shows them."""
        for some in batched(receipts, _SQS_BATCH):
            with aws_errors("SQS", f"hide messages of {self._url}"):
                # Single ones may be refused, because they have been deleted in the meantime.
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                        for index, receipt in enumerate(some)
                    ],
                )


def to_message(dead_letter: DeadLetter, pointer: BodyPointer) -> str:
    """The queue's message, JSON."""
    # ASCII: a file's key may hold characters that SQS does not take.
    return json.dumps({"body": asdict(pointer), **asdict(dead_letter)})


def from_message(text: str) -> tuple[DeadLetter, BodyPointer]:
    """Read a message of the queue; raises InvalidInputError if it is not one of ours."""
    try:
        found = json.loads(text)
        pointer = converted(found.pop("body"), BodyPointer)
        dead_letter = converted(found, DeadLetter)
    except (msgspec.ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # Not chained: the decoder's error holds the whole message.
        raise InvalidInputError(f"the message is no dead letter ({type(error).__name__})") from None
    return dead_letter, pointer


def peek(sqs: Any, url: str, most: int) -> list[str]:
    """Texts of up to ``most`` messages of a queue, each once. They stay in it, hidden from others for a second."""
    found: dict[str, str] = {}
    looks = 0
    while looks < _LOOKS and len(found) < most:
        before = len(found)
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=1).get("Messages", [])
        found.update({message["MessageId"]: message["Body"] for message in messages})
        looks += len(found) == before
    return list(found.values())[:most]


def described(text: str) -> dict[str, Any]:
    """A message of the queue for people, without any record."""
    try:
        letter, pointer = from_message(text)
    except InvalidInputError as error:
        return {"kind": "batch", "what": "a message that is none of ours", "error": str(error)}
    return {
        "kind": "batch",
        "what": pointer.key,
        "version_id": pointer.version_id,
        "idempotency_key": letter.idempotency_key,
        "file": letter.file.key,
        "records": f"{letter.first_record:,}-{letter.last_record:,}",
        "attempts": letter.attempts,
        "status": letter.last_status,
        "first": letter.first_failed_at,
        "error": letter.error,
    }


def _names(text: str) -> set[str]:
    """What a person may call a message's batch by; nothing if the message is none of ours."""
    try:
        letter, pointer = from_message(text)
    except InvalidInputError:
        return set()
    return {pointer.key, letter.idempotency_key}


@dataclass(frozen=True)
class ReplayResult:
    """How many messages ended in which way; ``received`` is the sum of the next three, but for a dry run.

    Args:
        received: taken off the queue; of some that were chosen, these only.
        accepted: posted and deleted.
        failed: refused again; they are in the queue still.
        unreadable: not a dead letter, or its body is gone or refused; they are in the queue still.
        not_found: chosen, but not in the queue, or not any more.
    """

    received: int = 0
    accepted: int = 0
    failed: int = 0
    unreadable: int = 0
    not_found: int = 0


class Replay:
    """One try of a replay, ``workers`` at once; the API's client, opened by the caller, limits the calls.

    ``note`` is told how many messages were posted and deleted so far, in a thread, before their workers take others: a
    try that dies leaves no more of them uncounted than it has workers.
    """

    def __init__(
        self,
        dead_letters: DeadLetters,
        api: CallDetailsApi,
        *,
        workers: int,
        note: Callable[[int], object],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._dead_letters = dead_letters
        self._api = api
        self._workers = workers
        self._note = note
        self._sleep = sleep
        self._queue: asyncio.Queue[MessageTypeDef | None] = asyncio.Queue(workers)
        self._threads = ThreadPoolExecutor(workers + 2)
        # Those that are accepted while one note is written have the next one in common.
        self._notes: GroupCommit[None, None] = GroupCommit(
            self._note_accepted, self._threads, gather_seconds=0.0, enough=1
        )
        self._received: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._ended: Counter[str] = Counter()

    async def run(self, limit: int, *, chosen: Collection[str] = (), dry_run: bool) -> ReplayResult:
        """Post what is in the queue, each message once, and at most ``limit`` of them.

        If any are chosen, only these batches, each by the key of its body or by its idempotency key; up to
        ``MOST_LOOKED_AT`` messages are looked through for them. ``dry_run``: only log what would be posted.

        Raises:
            PipelineError: any of the API, the login, SQS or S3. What was accepted before is deleted, the others stay.
        """
        with self._threads:
            async with self._hidden():
                try:
                    async with task_group() as tasks:
                        tasks.create_task(self._receive(limit, frozenset(chosen)))
                        for _ in range(self._workers):
                            tasks.create_task(self._work(dry_run=dry_run))
                finally:
                    await self._notes.close()
                # Not earlier, or this run would receive them again.
                async with task_group() as tasks:
                    for message, body in self._refused.items():
                        tasks.create_task(self._renew(message, body))
        return ReplayResult(**self._ended)

    async def _in_thread[T](self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _receive(self, limit: int, chosen: frozenset[str]) -> None:
        found: set[str] = set()
        looks = VISIBILITY_SECONDS // _WAIT_SECONDS
        # Beyond the limit, those that were chosen are only looked for: what it leaves in the queue is not gone.
        while len(self._received) < MOST_LOOKED_AT and (
            (left := limit - self._ended["received"]) > 0 or chosen - found
        ):
            messages = await self._in_thread(self._dead_letters.take, _SQS_BATCH if chosen else left)
            # A queue may deliver a message twice, with another receipt.
            fresh = [message for message in messages if message["MessageId"] not in self._received]
            self._received |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
            if not fresh:
                looks -= 1
                # What others hide, a try that died had received, and it shows itself within so many looks. Otherwise
                # the queue is empty, or has nothing else any more.
                if looks == 0 or await self._in_thread(self._dead_letters.hidden) <= len(self._received):
                    break
            for message in fresh:
                names = _names(message["Body"]) & chosen
                # Those that were not chosen stay hidden until the end, or this run would receive them again.
                found |= names
                if (names or not chosen) and self._ended["received"] < limit:
                    self._ended["received"] += 1
                    await self._queue.put(message)
        for name in sorted(chosen - found):
            self._ended["not_found"] += 1
            log.warning("not in the queue, or not any more: %s", name)
        for _ in range(self._workers):
            await self._queue.put(None)

    async def _work(self, *, dry_run: bool) -> None:
        while (message := await self._queue.get()) is not None:
            try:
                dead_letter, pointer = from_message(message["Body"])
                what = f"batch {dead_letter.batch} of {dead_letter.file.key} ({dead_letter.file.etag})"
                if dry_run:
                    log.info("would post %s, last status %s", what, dead_letter.last_status)
                    continue
                body = await self._in_thread(self._dead_letters.body, pointer)
            except InvalidInputError as error:
                log.warning("message %s stays in the queue: %s", message["MessageId"], error)
                self._ended["unreadable"] += 1
                if not dry_run:
                    self._refused[message["MessageId"]] = message["Body"]
                continue
            delivery = await self._api.post(body, dead_letter.idempotency_key)
            if delivery.accepted:
                await self._delete(message["MessageId"])
                self._ended["accepted"] += 1
                await self._notes.write(None)
                log.info("accepted: %s", what)
            else:
                self._ended["failed"] += 1
                self._refused[message["MessageId"]] = message["Body"]
                log.warning("%s stays in the queue: %s", what, delivery.error)

    def _note_accepted(self, accepted: list[None]) -> list[None]:
        self._note(self._ended["accepted"])
        return accepted

    async def _renew(self, message: str, body: str) -> None:
        """Send a message again and delete the old one, so that its 14 days begin again."""
        # In this order: two messages of a batch do no harm, no message would lose it.
        await self._in_thread(self._dead_letters.send, body)
        await self._delete(message)

    async def _delete(self, message: str) -> None:
        await self._in_thread(self._dead_letters.delete, self._received[message])
        del self._received[message]

    @asynccontextmanager
    async def _hidden(self) -> AsyncIterator[None]:
        """Keep received messages hidden from other readers; those not deleted by the end are shown again."""

        async def hide(seconds: int) -> None:
            await self._in_thread(self._dead_letters.hide, list(self._received.values()), seconds)

        async def extend() -> None:
            while True:
                await self._sleep(VISIBILITY_SECONDS / 3)
                try:
                    await hide(VISIBILITY_SECONDS)
                except TransientError as error:
                    log.warning("messages could not be kept hidden, they may be posted twice: %s", error)

        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)
            await hide(0)
