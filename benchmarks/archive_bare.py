"""The limit of the archive: a bare client that gets each response and puts it into S3, and does nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import aiohttp

from benchmarks.bench import TRIGGER_PATH, Bench, BenchmarkError, connection, token_form
from benchmarks.cpu import CpuMeter, CpuUse
from include.archive.models import Client
from local.processes.layout import DUMMY_AWS_KEY, REGION
from local.stack.description import Stack

CONNECTIONS = 128


@dataclass(frozen=True)
class Bare:
    """One run of the bare client: ``clients`` archived in ``wall`` seconds, by ``own_cpu`` seconds of CPU."""

    clients: int
    wall: float
    own_cpu: float
    cpu: CpuUse


def archive_bare(bench: Bench, clients: Sequence[Client], day: date) -> Bare:
    """Archive ``clients`` of a day that nothing was archived for: a GET and a signed, conditional PUT each.

    Raises:
        BenchmarkError: a client failed.
    """
    api = connection(bench.stack, "dex_api")
    with CpuMeter(bench.stack) as meter:
        began, cpu = time.monotonic(), time.process_time()
        asyncio.run(_archive(bench.stack, api, clients, day))
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
    return Bare(len(clients), wall, cpu, meter.use)


async def _archive(stack: Stack, api: dict[str, Any], clients: Sequence[Client], day: date) -> None:
    waiting = iter(clients)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.post(api["extra"]["token_url"], data=token_form(api)) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}

        async def work() -> None:
            for client in waiting:
                asked = {"clientId": str(client.id), "triggerDate": day.isoformat()}
                async with http.get(f"{api['host']}{TRIGGER_PATH}", params=asked, headers=headers) as answer:
                    body = await answer.read()
                    _expect(answer, client)
                path = f"/{stack.archive_bucket}/trigger/{client.id}/{client.id}_trigger_{day:%Y%m%d}.json"
                signed = _signed(stack.aws_endpoint_url, path, body)
                async with http.put(f"{stack.aws_endpoint_url}{path}", data=body, headers=signed) as answer:
                    _expect(answer, client)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(work())


def _expect(answer: aiohttp.ClientResponse, client: Client) -> None:
    if answer.status != 200:
        raise BenchmarkError(f"client {client.id}: {answer.method} was answered {answer.status}")


def _signed(endpoint: str, path: str, body: bytes) -> dict[str, str]:
    """The headers of a PUT with Signature Version 4."""
    now, digest = datetime.now(UTC), hashlib.sha256(body).hexdigest()
    stamp, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    headers = {
        "content-type": "application/json",
        "host": endpoint.partition("://")[2],
        "if-none-match": "*",
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
        "x-amz-meta-sha256": digest,
        "x-amz-server-side-encryption": "AES256",
    }
    names, scope = ";".join(headers), f"{day}/{REGION}/s3/aws4_request"
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = hashlib.sha256(f"PUT\n{path}\n\n{lines}\n{names}\n{digest}".encode()).hexdigest()
    key = f"AWS4{DUMMY_AWS_KEY}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{request}"):
        key = hmac.digest(key, part.encode(), "sha256")
    by = f"Credential={DUMMY_AWS_KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {by}"}
