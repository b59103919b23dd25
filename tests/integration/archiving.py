"""A task's work on the archive in a process of its own, which can be killed: prints who is asked for and who is kept.

``python -m tests.integration.archiving ENDPOINT ACCOUNT BUCKET``
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from botocore.config import Config

from include.archive.models import Client, ClientOutcome, Response
from include.archive.run import Archiver
from include.archive.store import ArchiveStore
from include.clients.signed import SignedClient
from include.mapped_work import OutcomeFile
from tests.integration.conftest import Aws

CLIENTS = range(1, 241)
AT_ONCE = 8
DAY = date(2026, 3, 8)


def answer_of(client_id: int) -> bytes:
    """What the API has for a client."""
    return b'{ "client": %d,\r\n "text": "Za\xc5\xbc\xc3\xb3\xc5\x82\xc4\x87"}' % client_id


def tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


class Source:
    async def trigger_response(self, client_id: int, day: date) -> bytes:
        tell("asked")
        await asyncio.sleep(0.05)
        return answer_of(client_id)


class TellingStore(ArchiveStore):
    async def save(self, client_id: int, day: date, response: Response, *, force: bool) -> ClientOutcome:
        kept = await super().save(client_id, day, response, force=force)
        tell("kept")
        return kept


async def archive(account: Aws, bucket: str) -> None:
    """Archive all clients, going on where an earlier process was killed."""
    session = account.session()
    create: Callable[..., Any] = session.client
    s3 = create(
        "s3",
        endpoint_url=account.endpoint,
        config=Config(read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}),
    )
    async with SignedClient(s3, session.get_credentials) as signed:
        archiver = Archiver(
            source=Source(),
            store=TellingStore(signed, bucket),
            ledger=OutcomeFile(ClientOutcome, s3, bucket, "outcomes.json", clear_number=0),
            day=DAY,
            force=False,
            concurrency=AT_ONCE,
            save_every=0.1,
        )
        outcomes = await archiver.archive([Client(number, f"Client {number}") for number in CLIENTS])
    assert not any(outcome.failed for outcome in outcomes), outcomes


if __name__ == "__main__":
    # Whatever goes wrong, no test waits for this process for good.
    signal.alarm(60)
    asyncio.run(archive(Aws(sys.argv[1], sys.argv[2], Path()), sys.argv[3]))
