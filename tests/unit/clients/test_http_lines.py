from __future__ import annotations

import asyncio

import httpx
import pytest

from include.clients.http import Lines


def test_client_serves_one_call_at_a_time_and_then_the_next() -> None:
    async def run() -> None:
        lines = Lines(timeout=1, transport=httpx.MockTransport(lambda request: httpx.Response(200)))
        with lines.line() as first, lines.line() as second:
            assert first is not second
        with lines.line() as again:
            assert again in (first, second)
        await lines.close()
        assert first.is_closed
        assert second.is_closed

    asyncio.run(run())


def test_client_whose_call_failed_is_used_again() -> None:
    async def run() -> None:
        lines = Lines(timeout=1, transport=httpx.MockTransport(lambda request: httpx.Response(200)))
        with pytest.raises(httpx.ReadTimeout), lines.line() as failed:
            raise httpx.ReadTimeout("")
        with lines.line() as again:
            assert again is failed
        await lines.close()

    asyncio.run(run())
