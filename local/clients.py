"""Clients of a running stack, for demo, tests and benchmarks: Airflow's API, and the inbox of its alerts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import quote

import httpx

from local.partners.calls import CAPACITY
from local.partners.receivers import SLACK_PATH
from local.processes.supervisor import StackError
from local.stack.description import Stack

_ATTEMPTS = 3
_FINISHED = ("success", "failed")


class AirflowApi:
    """Use as ``with AirflowApi(stack) as airflow``. All times are in seconds."""

    def __init__(self, stack: Stack) -> None:
        self._http = stack.airflow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer of ``/api/v2<path>``, None where there is no body.

        Raises:
            StackError: no answer, or any status but 2xx; the message holds what Airflow said.
        """
        answer = self._answer(method, f"/api/v2{path}", options)
        if not answer.is_success:
            raise StackError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def _answer(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        # A machine that is busy may let the API wait for longer than the time-out: what can be repeated is.
        attempts = 1 if method == "POST" else _ATTEMPTS
        while True:
            attempts -= 1
            try:
                return self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if not attempts:
                    raise StackError(f"Airflow did not answer {method} {path}: {error}") from error

    def unpause(self, dag_id: str, *, paused: bool = False) -> None:
        """Let a DAG run, or pause it; its file is read at once: what it watches wakes it from then on, or no more."""
        dag = self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
        answer = self._answer("PUT", f"/api/v2/parseDagFile/{dag['file_token']}", {})
        # A conflict: it is about to be read.
        if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:
            raise StackError(f"Airflow answered {answer.status_code} to PUT /parseDagFile: {answer.text[:500]}")

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Start a run of a DAG that is not paused, with params; returns its run id.

        ``logical_date`` is ISO 8601, or None as for a run started in the UI without one.
        """
        body = {"conf": conf or {}, "logical_date": logical_date}
        return str(self.request("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def end(self, dag_id: str, run_id: str) -> None:
        """Mark a run as a success, as somebody does in the UI: what is not done yet is skipped."""
        self.request("PATCH", _run_path(dag_id, run_id), json={"state": "success"})

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run: ``state``, ``start_date``, ``end_date`` and more."""
        found: dict[str, Any] = self.request("GET", _run_path(dag_id, run_id))
        return found

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The latest hundred runs of a DAG, oldest first."""
        found: list[dict[str, Any]] = self.request(
            "GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "-run_after"}
        )["dag_runs"]
        return found[::-1]

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones included."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", path, params={"limit": 100, "offset": len(found)})
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.request("GET", path, params={"deserialize": "true"})["value"]

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        on_poll: Callable[[], None] = lambda: None,
        poll: float = 2.0,
    ) -> dict[str, Any]:
        """Wait until the run has ended, and return it; raises StackError if it did not end in time."""
        deadline = time.monotonic() + timeout
        while not has_ended(run := self.run(dag_id, run_id)):
            if time.monotonic() > deadline:
                raise StackError(f"run {run_id} of {dag_id} is still {run['state']} after {timeout:.0f} s")
            on_poll()
            time.sleep(poll)
        on_poll()
        return run


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def has_ended(run: dict[str, Any]) -> bool:
    """Whether this run, as Airflow describes it, is over."""
    return run["state"] in _FINISHED


def active_runs(airflow: AirflowApi, dag_id: str) -> list[str]:
    """Ids of a DAG's runs that are queued or running, oldest first."""
    return [run["dag_run_id"] for run in airflow.runs(dag_id) if not has_ended(run)]


def pause_when_idle(airflow: AirflowApi, dag_id: str) -> None:
    """Pause a DAG at a moment at which it has no run: a paused DAG's run would never end.

    Raises:
        StackError: there was no such moment within five minutes.
    """
    deadline = time.monotonic() + 300.0
    while True:
        if not active_runs(airflow, dag_id):
            airflow.unpause(dag_id, paused=True)
            if not active_runs(airflow, dag_id):
                return
            # One has begun in between.
            airflow.unpause(dag_id)
        if time.monotonic() > deadline:
            raise StackError(f"{dag_id} was never without a run for 300 s")
        time.sleep(0.5)


_WAIT_SECONDS = 20.0

_taken: dict[str, list[str]] = {}
_taking = threading.Lock()
"""Alerts that were taken off a queue for somebody else in this process, by the queue's URL."""


def receive_alerts(stack: Stack, *, containing: str, expected: int) -> list[str]:
    """Take alerts with a text off the queue, as they were received; others are kept for who asks for them.

    Waits up to 20 s for ``expected`` of them; then drains the queue, so that one too many is seen as well. Several
    threads may wait for alerts of their own.
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
