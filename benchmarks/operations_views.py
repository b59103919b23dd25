"""In a process with Airflow's environment: `python -m benchmarks.operations_views start`, or `views REPEAT PATHS`.

``start`` makes the API server's application and prints CPU seconds and memory. ``views`` asks the operations page for
paths, as an administrator and with nothing remembered, and repeats the AWS calls of each answer without the page.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import uvicorn
from botocore.exceptions import ClientError

Call = Callable[[], object]
Answer = tuple[dict[bytes, bytes], bytes]
"""Headers and body."""


@dataclass
class Recording:
    """The AWS calls of one answer: (thread, call) in the order in which they began; and what they read.

    Args:
        objects: that were read or looked at, and items of tables.
    """

    calls: list[tuple[str, Call]] = field(default_factory=list)
    objects: int = 0

    def client(self, client: Any) -> Any:
        """A client whose calls are recorded."""
        recording = self

        class Recorded:
            def __getattr__(self, operation: str) -> Callable[..., Any]:
                return lambda **request: recording.made(operation, lambda: getattr(client, operation)(**request))

            def get_paginator(self, operation: str) -> Any:
                pages = client.get_paginator(operation).paginate
                return SimpleNamespace(
                    paginate=lambda **request: iter(recording.made(operation, lambda: list(pages(**request))))
                )

        return Recorded()

    def made(self, operation: str, call: Callable[[], Any]) -> Any:
        """Make a call and note it."""
        self.calls.append((threading.current_thread().name, call))
        found = call()
        if operation in ("get_object", "head_object"):
            self.objects += 1
        elif isinstance(found, dict):
            tables = [found.get("Items", []), [found["Item"]] if "Item" in found else []]
            self.objects += sum(map(len, [*tables, *found.get("Responses", {}).values(), found.get("Messages", [])]))
        return found

    def repeat(self, threads: ThreadPoolExecutor) -> None:
        """Make the same calls: one after the other, or at once where they were."""
        for pooled, some in groupby(self.calls, key=lambda made: made[0].startswith("operations-aws")):
            chains: dict[str, list[Call]] = defaultdict(list)
            for thread, call in some:
                chains[thread if pooled else ""].append(call)
            for _ in threads.map(_make, chains.values()) if pooled else map(_make, chains.values()):
                pass


def _make(calls: Iterable[Call]) -> None:
    for call in calls:
        # What is not there costs a call as well.
        with suppress(ClientError):
            found = call()
            if isinstance(found, dict) and "Body" in found:
                found["Body"].read()


async def _get(app: Any, path: str, token: str) -> Answer:
    """Ask an application as its server does: an HTTP client's time is none of the page's."""
    place, _, query = path.partition("?")
    scope = {
        "type": "http", "method": "GET", "path": unquote(place), "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != HTTPStatus.OK:
        raise RuntimeError(f"{path}: {sent[0]['status']} {body[:500]!r}")
    return dict(sent[0]["headers"]), body


def views(repeat: int, paths: list[str]) -> dict[str, Any]:
    """Milliseconds of the answers of each view's paths and of their calls alone, in turns; how much they read.

    Args:
        repeat: times.
        paths: of each view, with blanks between them.

    Returns:
        by ``paths``: ``page``, ``bare``, most ``calls`` of one answer, ``objects`` of all, ``left_out``, ``strips``.
    """
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from airflow_ext.operations.app import create_app
    from airflow_ext.operations.reading import Source

    app = create_app()
    token = init_auth_manager().generate_jwt(SimpleAuthManagerUser(username="benchmark", role="admin"))
    known = Source()
    settings = known.settings()
    clients = {service: known.client(service) for service in ("s3", "dynamodb", "sqs")}

    class Fresh(Source):
        """Remembers nothing but what a server makes once."""

        recording: Recording | None = None

        def settings(self) -> Any:
            return settings

        def client(self, service: str) -> Any:
            client = clients[service]
            return client if self.recording is None else self.recording.client(client)

    async def ask(paths: str, recording: Recording | None = None) -> tuple[float, list[Answer]]:
        app.state.source = Fresh()
        app.state.source.recording = recording
        began = time.perf_counter()
        answers = [await _get(app, path, token) for path in paths.split()]
        return time.perf_counter() - began, answers

    async def measure() -> dict[str, Any]:
        measured = {}
        for path in paths:
            recording = Recording()
            _, first = await ask(path, recording)
            calls = max(int(headers[b"x-aws-calls"]) for headers, _ in first)
            found: dict[str, Any] = {"calls": calls, "objects": recording.objects, "page": [], "bare": []}
            for name in ("left_out", "strips"):
                found[name] = [text for _, body in first for text in json.loads(body)[name]]
            for _ in range(repeat):
                found["page"].append(1000 * (await ask(path))[0])
                began = time.perf_counter()
                recording.repeat(threads)
                found["bare"].append(1000 * (time.perf_counter() - began))
            measured[path] = found
        return measured

    with ThreadPoolExecutor(16) as threads:
        # The event loop that Airflow's server gets.
        return asyncio.run(measure(), loop_factory=uvicorn.Config(app).get_loop_factory())


def start() -> dict[str, float]:
    """CPU seconds until the API server's application is made, and the memory that the process then has, in MB."""
    sys.argv = ["airflow", "api-server"]
    from airflow.api_fastapi.app import create_app

    create_app(apps="all")
    status = Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return {"cpu": time.process_time(), "rss": resident / 1024}


if __name__ == "__main__":
    print(json.dumps(start() if sys.argv[1] == "start" else views(int(sys.argv[2]), sys.argv[3:])))
