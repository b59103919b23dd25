"""Writers that meet at one key of the archive: nothing is lost, nothing is written twice."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from include.archive.models import ClientOutcome, Result
from include.clients.signed import SignedClient
from include.errors import StorageUnavailableError
from tests.integration.archived_client import ArchivedClient
from tests.integration.conftest import Aws

WRITERS = 8


class RacedS3:
    """An S3 client that lets another writer go first when the condition is ``If-Match``."""

    def __init__(self, signed: SignedClient, other_writer: Callable[[], object]) -> None:
        self._signed = signed
        self._other_writer = other_writer

    async def call(self, operation: str, **arguments: Any) -> Any:
        if operation == "PutObject" and "IfMatch" in arguments:
            await asyncio.to_thread(self._other_writer)
        return await self._signed.call(operation, **arguments)


@pytest.fixture
def client(aws: Aws, archive_bucket: str) -> ArchivedClient:
    return ArchivedClient(aws, archive_bucket)


def _until_settled(client: ArchivedClient, body: bytes) -> ClientOutcome:
    """As a task and its retries do."""
    for _ in range(10 * WRITERS):
        try:
            return client.archive(body)
        except StorageUnavailableError:
            continue
    pytest.fail("the race never settled")


def _at_once(calls: Sequence[Callable[[], ClientOutcome]]) -> list[ClientOutcome]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_writer_that_comes_in_between_is_not_overwritten(client: ArchivedClient) -> None:
    client.archive(b"[1]")
    raced = partial(RacedS3, other_writer=lambda: client.archive(b"[2]"))
    with pytest.raises(StorageUnavailableError):
        client.archive(b"[3]", through=raced)
    assert client.bodies() == [b"[2]", b"[1]"]


def test_empty_answer_loses_the_race_against_a_full_one(client: ArchivedClient) -> None:
    client.archive(b"{}")
    raced = partial(RacedS3, other_writer=lambda: client.archive(b"[1]"))
    with pytest.raises(StorageUnavailableError):
        client.archive(b"[]", through=raced)
    assert client.bodies() == [b"[1]", b"{}"]


def test_writers_of_one_answer_at_once_leave_one_version(client: ArchivedClient) -> None:
    outcomes = _at_once([lambda: client.archive(b"[1]")] * WRITERS)
    assert sorted(outcome.outcome for outcome in outcomes) == [Result.ARCHIVED] + [Result.UNCHANGED] * (WRITERS - 1)
    assert len({outcome.version_id for outcome in outcomes}) == 1
    assert client.bodies() == [b"[1]"]


def test_writers_of_different_answers_at_once_lose_none(client: ArchivedClient) -> None:
    answers = [b"[%d]" % number for number in range(WRITERS)]
    outcomes = _at_once([partial(_until_settled, client, body) for body in answers])
    assert sorted(client.bodies()) == answers
    assert sum(outcome.outcome is Result.ARCHIVED for outcome in outcomes) == 1
    assert sum(outcome.outcome is Result.UPDATED for outcome in outcomes) == WRITERS - 1
