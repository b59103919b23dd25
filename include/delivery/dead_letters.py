"""Tells of events that could not be delivered: a message each in the delivery's dead-letter queue."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from include.clients.aws import aws_errors
from include.clients.webhooks import WebhookResponse
from include.delivery.models import Event, timestamp

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class DeadLetter:
    """An event that failed for good.

    Args:
        event_id: of the event, which the table keeps: it can be replayed.
        owner: whose it is.
        attempts: how often it was posted.
        last_status: of the last answer; None if there was none.
        error: why it was not accepted, on a short line without anything of the answer's body.
        first_failed_at: when it was first posted in vain, ISO 8601.
    """

    event_id: str
    owner: str
    attempts: int
    last_status: int | None
    error: str
    first_failed_at: str

    @classmethod
    def of(cls, event: Event, reply: WebhookResponse, now: float) -> Self:
        """The dead letter of an event whose last attempt had this reply.

        Args:
            event: as claimed for that attempt.
            reply: a refusal.
            now: seconds since the epoch.
        """
        error = reply.failure.error if reply.failure else ""
        since = event.first_failed_at or timestamp(now)
        return cls(event.event_id, event.owner, event.attempts + 1, reply.status, error, since)

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
        """Tell of an event. It is told before the table says so: whoever dies between leaves a second message.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        with aws_errors("SQS", f"send to {self._queue_url}"):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(asdict(letter)))
