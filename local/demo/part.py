"""One part of the demo: what ran, what is shown of it, what it promised. And what the parts have in common."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from local.processes.layout import PROJECT_ROOT, PYTHON, aws_environment, clean_environment
from local.processes.supervisor import StackError
from local.stack.description import Stack

TIMEOUT_SECONDS = 300.0


@dataclass
class Part:
    """A pipeline that ran, or an API that was called.

    Args:
        name: of the pipeline or the API.
        explanation: what a reader should know, such as which failure is meant.
        what: what ran: ids of runs, or the calls that were made.
        result: what came of it, in a few words.
        seconds: from its start to its end.
        written: where things were written.
        exhibits: by title: responses, alerts and stored things, as they were received or read back.
        checks: by promise, whether it was found kept by reading it back.
    """

    name: str
    explanation: str
    what: str = ""
    result: str = ""
    seconds: float = 0.0
    written: list[str] = field(default_factory=list)
    exhibits: dict[str, str] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Every promise is kept, and there is at least one."""
        return bool(self.checks) and all(self.checks.values())

    def check_alerts(self, sns: list[str], slack: list[str], *names: str) -> None:
        """Promise one alert a name, and no other, through each channel; show the first as SNS delivered it."""
        for channel, messages in (("SNS", sns), ("Slack", slack)):
            kept = len(messages) == len(names) and all(sum(name in text for text in messages) == 1 for name in names)
            counts = f"{len(messages)} for {len(names)}"
            self.checks[f"alerts through {channel}, one for each failure, which it names: {counts}"] = kept
        self.exhibits["an alert, as SNS delivered it"] = sns[0] if sns else "none"


def run_tool(stack: Stack, tool: str, *arguments: str) -> str:
    """What a command of ``lambdas.tools`` prints on the stack; raises StackError with its message if it failed."""
    done = subprocess.run(
        [PYTHON, "-m", f"lambdas.tools.{tool}", *arguments],
        cwd=PROJECT_ROOT,
        env=clean_environment() | aws_environment(stack.aws_endpoint_url),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"lambdas.tools.{tool} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def get_json(partners: httpx.Client, path: str, **params: Any) -> dict[str, Any]:
    """The JSON object that a GET of the stubs gives."""
    document: dict[str, Any] = partners.get(path, params=params).raise_for_status().json()
    return document


def read(stack: Stack, bucket: str, key: str) -> bytes:
    """An object's body."""
    body: bytes = stack.aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def queue_messages(stack: Stack, queue_url: str) -> list[dict[str, Any]]:
    """The JSON objects that are in a queue, up to ten; they stay there, and the next reader gets them at once."""
    response = stack.aws("sqs").receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0, WaitTimeSeconds=1
    )
    return [json.loads(message["Body"]) for message in response.get("Messages", [])]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for up to five minutes; raises StackError, which names ``what``, if it did not come."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise StackError(f"not within {TIMEOUT_SECONDS:.0f} s: {what}")
        time.sleep(0.5)


@contextmanager
def rules(partners: httpx.Client, *added: dict[str, Any], **options: Any) -> Iterator[None]:
    """Have the stubs follow rules of the control document (see ``local.partners.app``) until the block ends.

    They come before those that the stubs have; ``options`` are the document's other fields, such as ``latency_ms``.
    """
    before = get_json(partners, "/control")
    partners.put("/control", json={**before, **options, "rules": [*added, *before["rules"]]}).raise_for_status()
    try:
        yield
    finally:
        partners.put("/control", json=before).raise_for_status()


def shown(response: httpx.Response) -> str:
    """Status and body of a response, to look at."""
    body = json.dumps(response.json(), indent=2, ensure_ascii=False) if response.content else ""
    return f"{response.status_code} {response.reason_phrase}\n{body}".rstrip()
