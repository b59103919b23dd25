"""The delivery's dead-letter queue: one message for each event that failed for good."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from include.clients.aws import aws_errors
from include.delivery.models import Attempt, Event, timestamp

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class DeadLetter:
    """An event that failed for good.

    Args:
        event_id: of the event, which the table keeps: it can be replayed.
        owner: of the event.
        attempts: how often it was posted.
        last_status: HTTP status of the last attempt; None if it was not answered.
        error: why it failed, on a short line without anything of the answer's body.
        first_failed_at: time of the first failed attempt, ISO 8601.
    """

    event_id: str
    owner: str
    attempts: int
    last_status: int | None
    error: str
    first_failed_at: str

    @classmethod
    def of(cls, event: Event, attempt: Attempt) -> Self:
        """The dead letter of an event whose last attempt failed.

        Args:
            event: as claimed for that attempt.
            attempt: the last one.
        """
        since = event.first_failed_at or timestamp(attempt.ended_at)
        return cls(event.event_id, event.owner, event.attempts + 1, attempt.response.status, attempt.error, since)

    @classmethod
    def recorded(cls, event: Event) -> Self:
        """The dead letter of an event that the table has as failed."""
        since = event.first_failed_at or event.created_at
        return cls(event.event_id, event.owner, event.attempts, event.last_status, event.last_error or "", since)


class DeadLetters:
    """The dead letters of one queue.

    Args:
        sqs: a boto3 client; safe to share between threads.
        queue_url: the queue.
    """

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def send(self, letter: DeadLetter) -> None:
        """Send a dead letter. Done before the table says "failed": a worker that dies in between sends a second one."""
        with aws_errors("SQS", f"send to {self._queue_url}"):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(asdict(letter)))
