"""The SQS queue that is subscribed to the alerts topic on the local stack: what people would have received."""

from __future__ import annotations

import json
import time

from local.stack import Stack

_WAIT_SECONDS = 20.0


def receive_alerts(stack: Stack, *, containing: str, expected: int) -> list[str]:
    """Take alerts off the queue, as they were received.

    Waits up to 20 s for ``expected`` of them; then drains the queue, so that one too many is seen as well.

    Args:
        stack: the stack whose queue it is.
        expected: how many to wait for.
        containing: only alerts with this text; others stay out of the result, and off the queue.

    Returns:
        texts of the alerts.
    """
    sqs = stack.aws("sqs")
    found: list[str] = []
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        answer = sqs.receive_message(QueueUrl=stack.alerts_queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        messages = answer.get("Messages", [])
        for message in messages:
            text = json.loads(message["Body"])["Message"]
            found += [text] if containing in text else []
            sqs.delete_message(QueueUrl=stack.alerts_queue_url, ReceiptHandle=message["ReceiptHandle"])
        if not messages and (len(found) >= expected or time.monotonic() > deadline):
            return found
