"""The call-details API's stub as the benchmarks use it: posted to as fast as it goes, and asked what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import httpx

from benchmarks.bench import LATENCY_MS, BenchmarkError, connection
from include.call_details.records import Batch
from local.partners.call_details import BATCH_PATH, KEY_HEADER
from local.partners.calls import CAPACITY
from local.stack.description import Stack

_RECEIVED = "/journal/call-details"


@dataclass(frozen=True)
class Posting:
    """What the stub saw of one posting.

    Args:
        records: that it took.
        seconds: from the beginning of the first call to the end of the last one.
        peak_calls: most calls at once.
    """

    records: int
    seconds: float
    peak_calls: int

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


class CallDetailsStub:
    """The stub of one stack, which answers a batch after ``LATENCY_MS`` and never fails."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        api = connection(stack, "call_details_api")
        self.url: str = api["host"]
        self._login_url: str = api["extra"]["auth_url"]
        rules = [{"path": BATCH_PATH, "latency_ms": LATENCY_MS}]
        httpx.put(f"{stack.partners_url}/control", json={"rules": rules}).raise_for_status()

    def log_in(self) -> str:
        """A token."""
        ssm = self._stack.aws("ssm")
        names = {"accessKey": "/copyazure/accesskey", "secretKey": "/copyazure/secretkey"}
        keys = {
            name: ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"]
            for name, parameter in names.items()
        }
        return str(httpx.post(self._login_url, json=keys).raise_for_status().json()["token"])

    def forget(self) -> None:
        """Let the stub forget all that it has seen."""
        for path in ("/journal", _RECEIVED):
            httpx.delete(f"{self._stack.partners_url}{path}").raise_for_status()

    def seen(self, records: int) -> Posting:
        """What has come since the stub was last made to forget.

        Args:
            records: that have been posted.

        Raises:
            BenchmarkError: other records came, or some of them twice.
        """
        taken = httpx.get(f"{self._stack.partners_url}{_RECEIVED}", timeout=60).raise_for_status().json()
        if (taken["records"], taken["times"]) != (records, taken["batches"]):
            raise BenchmarkError(f"{records:,} records were to be posted once each, but the stub took {taken}")
        query: dict[str, str | int] = {"path": BATCH_PATH, "limit": CAPACITY}
        journal = httpx.get(f"{self._stack.partners_url}/journal", params=query, timeout=60).raise_for_status().json()
        begun = [datetime.fromisoformat(call["at"]).timestamp() for call in journal["calls"]]
        ended = [start + call["duration_ms"] / 1000 for start, call in zip(begun, journal["calls"], strict=True)]
        return Posting(records, max(ended) - min(begun), journal["max_concurrent"][BATCH_PATH])


def post_bare(stub: CallDetailsStub, batches: Sequence[Batch], *, connections: int) -> Posting:
    """Post ready-made bodies over so many connections, with nothing around it: the limit of what can be reached.

    Raises:
        aiohttp.ClientResponseError: a batch was not accepted.
    """
    stub.forget()
    asyncio.run(_post_all(stub.url, stub.log_in(), batches, connections))
    return stub.seen(sum(batch.count for batch in batches))


async def _post_all(url: str, token: str, batches: Sequence[Batch], connections: int) -> None:
    left = iter(batches)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections), headers=headers, raise_for_status=True
    ) as session:

        async def post() -> None:
            for batch in left:
                async with session.post(url, data=batch.body, headers={KEY_HEADER: batch.idempotency_key}) as answer:
                    await answer.read()

        await asyncio.gather(*(post() for _ in range(connections)))
