"""What people received on the local stack: a queue subscribed to the alerts topic, and the Slack stub's messages."""

from __future__ import annotations

import json
import threading
import time

import httpx

from local.partners.calls import CAPACITY
from local.partners.receivers import SLACK_PATH
from local.stack.description import Stack

_WAIT_SECONDS = 20.0

_taken: dict[str, list[str]] = {}
_taking = threading.Lock()
"""Alerts that were taken off a queue for somebody else in this process, by the queue's URL."""


def receive_alerts(stack: Stack, *, containing: str, expected: int) -> list[str]:
    """Take alerts off the queue, as they were received.

    Waits up to 20 s for ``expected`` of them; then drains the queue, so that one too many is seen as well. Several
    threads may wait for alerts of their own.

    Args:
        stack: the stack whose queue it is.
        expected: how many to wait for.
        containing: only alerts with this text; others are kept for who asks for them.

    Returns:
        texts of the alerts.
    """
    sqs, queue = stack.aws("sqs"), stack.alerts_queue_url
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        with _taking:
            taken = _taken.setdefault(queue, [])
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            messages = answer.get("Messages", [])
            for message in messages:
                taken.append(json.loads(message["Body"])["Message"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            found = [text for text in taken if containing in text]
            if not messages and (len(found) >= expected or time.monotonic() > deadline):
                _taken[queue] = [text for text in taken if containing not in text]
                return found


def slack_messages(stack: Stack, *, containing: str) -> list[str]:
    """The messages with this text that Slack has taken until now: the JSON that was posted, oldest first."""
    asked: dict[str, str | int] = {"path": SLACK_PATH, "limit": CAPACITY}
    calls = httpx.get(f"{stack.partners_url}/journal", params=asked).raise_for_status().json()["calls"]
    taken = [str(call["body"]) for call in calls if call["status"] == httpx.codes.OK]
    return [message for message in taken if containing in message]
