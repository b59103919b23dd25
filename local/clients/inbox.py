"""What people received on the local stack: a queue subscribed to the alerts topic, and the Slack stub's messages."""

from __future__ import annotations

import json
import time

import httpx

from local.partners.journal import CAPACITY
from local.partners.slack import PATH
from local.stack.description import Stack

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


def slack_messages(stack: Stack, *, containing: str) -> list[str]:
    """The messages with this text that Slack has taken until now: the JSON that was posted, oldest first."""
    asked: dict[str, str | int] = {"path": PATH, "limit": CAPACITY}
    calls = httpx.get(f"{stack.partners_url}/journal", params=asked).raise_for_status().json()["calls"]
    taken = [str(call["body"]) for call in calls if call["status"] == httpx.codes.OK]
    return [message for message in taken if containing in message]
