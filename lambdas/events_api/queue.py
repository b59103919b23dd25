"""The queue that wakes the delivery: the table decides what is delivered, a message only says that something is due."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common.aws import error_code
from lambdas.events_api.errors import QueueUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class DeliveryQueue(Protocol):
    """Wakes the delivery."""

    def wake(self, event_id: str) -> None:
        """Say that an event is due.

        Raises:
            QueueUnavailableError: it may not have been heard.
        """


class SqsDeliveryQueue:
    """A :class:`DeliveryQueue` of SQS.

    Args:
        sqs: a client.
        url: of the queue.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def wake(self, event_id: str) -> None:
        """Say that an event is due."""
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=json.dumps({"event_id": event_id}))
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailableError(error_code(error)) from None
