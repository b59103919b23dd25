"""The queue of dead letters, as a replay reads it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import batched
from typing import TYPE_CHECKING

from include.clients.aws import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

VISIBILITY_SECONDS = 120
"""How long a message stays hidden from others unless that is extended, which happens three times as often."""

_WAIT_SECONDS = 2
_SQS_BATCH = 10


class LetterQueue:
    """One queue.

    Every method may raise AwsUnavailableError (a retry may work) and AwsRefusedError (it will not).

    Args:
        sqs: a boto3 client; safe to share between threads.
        url: of the queue.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def take(self, most: int) -> list[MessageTypeDef]:
        """Some messages, which are then hidden from others for a while; none if the queue is empty."""
        with aws_errors("SQS", f"receive from {self._url}"):
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(most, _SQS_BATCH),
                VisibilityTimeout=VISIBILITY_SECONDS,
                WaitTimeSeconds=_WAIT_SECONDS,
            )
        return answer.get("Messages", [])

    def send(self, body: str) -> None:
        """Send a message."""
        with aws_errors("SQS", f"send to {self._url}"):
            self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def delete(self, receipt: str) -> None:
        """Delete a message by the receipt of its last delivery."""
        with aws_errors("SQS", f"delete a message of {self._url}"):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)

    def hide(self, in_hand: Iterable[tuple[str, str]], seconds: int) -> None:
        """Hide messages for some time from now on; 0 shows them.

        Args:
            in_hand: their ids and receipts.
            seconds: how long.
        """
        for some in batched(in_hand, _SQS_BATCH):
            with aws_errors("SQS", f"hide messages of {self._url}"):
                # Single ones may be refused, because they have been deleted in the meantime.
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                        for index, (_, receipt) in enumerate(some)
                    ],
                )
