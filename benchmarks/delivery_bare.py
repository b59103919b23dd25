"""The baseline of the delivery: ready-made posts, one after the other for each owner, and nothing around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.cpu import CpuMeter, CpuUse
from benchmarks.delivery_backlog import Backlog, Posting, Receivers
from include.delivery.letter import Letter
from local.stack import Stack


@dataclass(frozen=True)
class BarePosting:
    """One posting.

    Args:
        posting: as the receivers saw it.
        poster_cpu: CPU seconds of the poster.
        cpu: CPU used by the stack meanwhile: the receivers, as nothing else is at work.
    """

    posting: Posting
    poster_cpu: float
    cpu: CpuUse


def post_bare(stack: Stack, backlog: Backlog, receivers: Receivers, *, at_once: int) -> BarePosting:
    """Post a backlog: the limit of what can be reached while each owner's order is kept.

    Args:
        stack: where the receivers are.
        backlog: what to post; the table is neither read nor written.
        receivers: of its owners.
        at_once: posts at the most.

    Raises:
        aiohttp.ClientResponseError: a post was not accepted.
        BenchmarkError: not all arrived.
    """
    letters = backlog.letters()
    receivers.forget()
    with CpuMeter(stack) as meter:
        began = time.process_time()
        asyncio.run(_post_all(letters, at_once))
        used = time.process_time() - began
    return BarePosting(backlog.posting(), used, meter.use)


async def _post_all(letters: Mapping[str, Sequence[Letter]], at_once: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once), raise_for_status=True) as session:

        async def post_in_order(url: str, mine: Sequence[Letter]) -> None:
            for letter in mine:
                async with session.post(url, data=letter.body, headers=letter.headers) as answer:
                    await answer.read()

        await asyncio.gather(*(post_in_order(url, mine) for url, mine in letters.items()))
