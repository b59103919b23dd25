"""Posts dead letters again: a message leaves the queue only after its batch was accepted.

What is refused again is sent anew in the end, and only then is the old message deleted: SQS drops a message 14 days
after it was sent, and no longer counts one as the oldest that was received several times.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.clients.call_details import CallDetailsApi
from include.errors import InvalidInputError, TransientError
from include.ingest.dead_letters import DeadLetters, from_message
from include.ingest.letter_queue import VISIBILITY_SECONDS, LetterQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReplayResult:
    """How many messages ended in which way; ``received`` is the sum of the others, but for a dry run.

    Args:
        received: taken off the queue.
        accepted: posted and deleted.
        failed: refused again; they are in the queue still.
        unreadable: not a dead letter, or its body is gone; they are in the queue still.
    """

    received: int = 0
    accepted: int = 0
    failed: int = 0
    unreadable: int = 0


class Replay:
    """Replays the dead letters of one queue.

    Args:
        sqs: a boto3 client; safe to share between threads.
        queue_url: the queue.
        dead_letters: where their bodies are.
        api: opened by the caller; its gate decides how many calls there are at once.
        workers: how many are under way at once.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        dead_letters: DeadLetters,
        api: CallDetailsApi,
        *,
        workers: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._queue = LetterQueue(sqs, queue_url)
        self._dead_letters = dead_letters
        self._api = api
        self._workers = workers
        self._sleep = sleep
        self._in_hand: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._ended: Counter[str] = Counter()

    async def run(self, limit: int, *, dry_run: bool) -> ReplayResult:
        """Post what is in the queue, each message once.

        Args:
            limit: how many messages at most.
            dry_run: read the messages only, and log what would be posted.

        Raises:
            ApiUnavailableError: the API asks to wait for long.
            PipelineError: any other of the login, SQS or S3. Whatever it is, what was accepted before is deleted, and
                the others stay.
        """
        queue: asyncio.Queue[MessageTypeDef | None] = asyncio.Queue(self._workers)
        with ThreadPoolExecutor(self._workers + 2) as threads:
            async with self._hidden(threads):
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._receive(limit, queue, threads))
                        for _ in range(self._workers):
                            tasks.create_task(self._work(queue, threads, dry_run=dry_run))
                    # Not earlier, or this run would receive them again.
                    async with asyncio.TaskGroup() as tasks:
                        for message, body in self._kept.items():
                            tasks.create_task(self._renew(message, body, threads))
                except ExceptionGroup as group:
                    # The error itself is to be seen: its type decides, its text tells.
                    error = group.exceptions[0]
                    raise error from error.__cause__
        return ReplayResult(**self._ended)

    async def _receive(
        self, limit: int, queue: asyncio.Queue[MessageTypeDef | None], threads: ThreadPoolExecutor
    ) -> None:
        loop = asyncio.get_running_loop()
        while (left := limit - self._ended["received"]) > 0:
            messages = await loop.run_in_executor(threads, self._queue.take, left)
            # A queue may deliver a message twice, with another receipt.
            fresh = [message for message in messages if message["MessageId"] not in self._in_hand]
            self._in_hand |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
            if not fresh:
                # Empty, or it has nothing else any more.
                break
            for message in fresh:
                self._ended["received"] += 1
                await queue.put(message)
        for _ in range(self._workers):
            await queue.put(None)

    async def _work(
        self, queue: asyncio.Queue[MessageTypeDef | None], threads: ThreadPoolExecutor, *, dry_run: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while (message := await queue.get()) is not None:
            try:
                letter, pointer = from_message(message["Body"])
                what = f"batch {letter.batch} of {letter.file.key} ({letter.file.etag})"
                if dry_run:
                    log.info("would post %s, last status %s", what, letter.last_status)
                    continue
                body = await loop.run_in_executor(threads, self._dead_letters.body, pointer)
            except InvalidInputError as error:
                log.warning("message %s stays in the queue: %s", message["MessageId"], error)
                self._ended["unreadable"] += 1
                if not dry_run:
                    self._kept[message["MessageId"]] = message["Body"]
                continue
            delivery = await self._api.post(body, letter.idempotency_key)
            if delivery.accepted:
                await loop.run_in_executor(threads, self._queue.delete, self._in_hand[message["MessageId"]])
                del self._in_hand[message["MessageId"]]
                self._ended["accepted"] += 1
                log.info("accepted: %s", what)
            else:
                self._ended["failed"] += 1
                self._kept[message["MessageId"]] = message["Body"]
                log.warning("%s stays in the queue: %s", what, delivery.error)

    async def _renew(self, message: str, body: str, threads: ThreadPoolExecutor) -> None:
        """Put a message in the place of one that says the same, so that its time begins anew."""
        loop = asyncio.get_running_loop()
        # In this order: two messages of a batch do no harm, none would lose it.
        await loop.run_in_executor(threads, self._queue.send, body)
        await loop.run_in_executor(threads, self._queue.delete, self._in_hand[message])
        del self._in_hand[message]

    @asynccontextmanager
    async def _hidden(self, threads: ThreadPoolExecutor) -> AsyncIterator[None]:
        """Keep what is in hand hidden from other readers; what is still in hand in the end is shown again."""
        loop = asyncio.get_running_loop()

        async def extend() -> None:
            while True:
                await self._sleep(VISIBILITY_SECONDS / 3)
                try:
                    await loop.run_in_executor(
                        threads, self._queue.hide, list(self._in_hand.items()), VISIBILITY_SECONDS
                    )
                except TransientError as error:
                    log.warning("messages could not be kept hidden, they may be posted twice: %s", error)

        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)
            await loop.run_in_executor(threads, self._queue.hide, list(self._in_hand.items()), 0)
