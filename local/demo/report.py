"""What the demo reports of each of its parts.

What the parts of the demo have in common: commands as a person gives them, the partner stubs, answers of an API.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from local.processes.layout import PROJECT_ROOT, PYTHON, aws_environment, clean_environment
from local.processes.supervisor import StackError
from local.stack.description import Stack

Tell = Callable[[int, int], None]
"""Shows progress: steps done, steps in all (0: not known yet)."""


@dataclass(frozen=True)
class Check:
    """One promise, and whether it was found kept by reading it back."""

    claim: str
    passed: bool


@dataclass(frozen=True)
class Exhibit:
    """Something to look at, as it was received or read back.

    Args:
        title: what it is, and where it was found.
    """

    title: str
    text: str


@dataclass
class Report:
    """One part of the demo: a pipeline that ran, or an API that was called.

    Args:
        name: of the pipeline or the API.
        what: what ran: ids of runs, or the calls that were made.
        state: how it ended.
        seconds: from its start to its end.
        result: what came of it, in a few words.
        written: where things were written.
        exhibits: alerts, answers and stored things, word for word.
        explanation: what a reader should know, such as which failure is meant.
    """

    name: str
    what: str
    state: str
    seconds: float
    result: str
    written: list[str]
    exhibits: list[Exhibit]
    explanation: str
    checks: list[Check] = field(default_factory=list)

    def check(self, claim: str, passed: bool) -> None:
        """Note a promise."""
        self.checks.append(Check(claim, passed))

    @property
    def passed(self) -> bool:
        """Every promise is kept, and there is at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_document(self) -> dict[str, Any]:
        """A JSON document."""
        return {**asdict(self), "passed": self.passed}


def run_tool(stack: Stack, tool: str, *arguments: str) -> str:
    """What a command of ``lambdas.tools`` prints.

    Args:
        stack: where it is to work.
        tool: name of its module.
        arguments: of the command line.

    Raises:
        StackError: it failed; the message is its own.
    """
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


def ask(partners: httpx.Client, path: str, **asked: Any) -> dict[str, Any]:
    """The JSON object that a GET of the stubs gives."""
    answer: dict[str, Any] = partners.get(path, params=asked).raise_for_status().json()
    return answer


def peek(stack: Stack, queue_url: str) -> list[dict[str, Any]]:
    """The JSON objects that are in a queue, up to ten; they stay there, and the next reader gets them at once."""
    answer = stack.aws("sqs").receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0, WaitTimeSeconds=1
    )
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


@contextmanager
def rules(partners: httpx.Client, *added: dict[str, Any], **options: Any) -> Iterator[None]:
    """Have the stubs follow rules, before those that they have, until the block ends.

    Args:
        partners: the stubs.
        added: rules of the control document (see ``local.partners.app``).
        options: its other fields, such as ``latency_ms``.
    """
    before = ask(partners, "/control")
    partners.put("/control", json={**before, **options, "rules": [*added, *before["rules"]]}).raise_for_status()
    try:
        yield
    finally:
        partners.put("/control", json=before).raise_for_status()


def json_of(answer: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object, empty if there is none: the checks then say what is missing."""
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def shown(answer: httpx.Response) -> str:
    """Status and body of an answer, to look at."""
    document = json_of(answer)
    body = json.dumps(document, indent=2, ensure_ascii=False) if document else answer.text
    return f"{answer.status_code} {answer.reason_phrase}\n{body}".rstrip()
