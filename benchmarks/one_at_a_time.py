"""The baseline: the archive as the original Lambda did it, ported as it was.

One token for the run; then client after client: ask the API, parse the answer, write it to S3. A failure is noted and
the loop goes on. In the original's favour its connections are kept open between calls, nothing starts cold, and the
15-minute limit of a Lambda is ignored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import requests

from benchmarks.bench import TRIGGER_PATH, Bench, BenchmarkError, connection, token_form
from benchmarks.cpu import CpuMeter, CpuUse
from include.archive.models import Client


@dataclass(frozen=True)
class Loop:
    """One run of the loop: ``clients`` archived in ``wall`` seconds."""

    clients: int
    wall: float
    cpu: CpuUse


def archive_one_at_a_time(bench: Bench, clients: Sequence[Client], day: date) -> Loop:
    """Archive ``clients`` of a day that nothing was archived for.

    Raises:
        BenchmarkError: a client failed.
    """
    with CpuMeter(bench.stack) as meter:
        began = time.monotonic()
        failures = _handler(bench, clients, day)
        wall = time.monotonic() - began
    if failures:
        raise BenchmarkError(f"{len(failures)} clients failed in the one-at-a-time loop, first: {failures[0]}")
    return Loop(len(clients), wall, meter.use)


def _handler(bench: Bench, clients: Sequence[Client], day: date) -> list[str]:
    stack, api = bench.stack, connection(bench.stack, "dex_api")
    s3, http = stack.aws("s3"), requests.Session()
    answer = http.post(api["extra"]["token_url"], data=token_form(api), timeout=30)
    answer.raise_for_status()
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    failures = []
    for client in clients:
        try:
            answer = http.get(
                f"{api['host']}{TRIGGER_PATH}",
                params={"clientId": str(client.id), "triggerDate": day.isoformat()},
                headers=headers,
                timeout=30,
            )
            answer.raise_for_status()
            s3.put_object(
                Bucket=stack.archive_bucket,
                Key=f"trigger/{client.id}/{client.id}_trigger_{day:%Y%m%d}.json",
                Body=json.dumps(answer.json()),
                ContentType="application/json",
            )
        except requests.RequestException as error:
            failures.append(f"client {client.id}: {error}")
    return failures
