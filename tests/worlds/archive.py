"""The archive's surroundings: client database, S3, and the DEX API with its token endpoint, which a test scripts."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

import httpx

from include.clients.tokens import ClientCredentials
from tests.worlds.http import Reply, ScriptedPartner
from tests.worlds.pipeline import PLANTED, PLANTED_TOKEN, PipelineWorld
from tests.worlds.s3 import FakeS3

BASE_URL = "https://dex.test/api"
TOKEN_URL = "https://login.test/oauth2/token"
SECRET = PLANTED
TOKEN = PLANTED_TOKEN

CREDENTIALS = ClientCredentials(TOKEN_URL, "dex-client", SECRET, "dex/trigger:all")


@dataclass
class Clock:
    """A clock that stands until it is told."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def token_answer(number: int = 1, **changes: Any) -> httpx.Response:
    """A token answer as RFC 6749, 5.1 has it; a field given as None is left out."""
    document = {"access_token": f"{TOKEN}-{number}", "token_type": "Bearer", "expires_in": 3600} | changes
    return httpx.Response(200, json={name: value for name, value in document.items() if value is not None})


class FakeDex(ScriptedPartner):
    """Answers as scripted and remembers the requests.

    Args:
        tokens: replies of the token endpoint in turn; beyond them, fresh tokens.
        answers: reply by client id, or a list of replies in turn; others get ``{"client": id}``.
    """

    def __init__(self, *, tokens: Iterable[Reply] = (), answers: dict[int, Reply | list[Reply]] | None = None) -> None:
        self._tokens = list(tokens)
        self.answers = answers or {}
        self.logins: list[dict[str, str]] = []
        self.login_headers: list[httpx.Headers] = []
        self.asked: list[httpx.Request] = []
        self.bearers: list[str] = []

    def reply_to(self, request: httpx.Request) -> Reply:
        return self._login(request) if str(request.url) == TOKEN_URL else self._answer(request)

    @property
    def clients_asked(self) -> list[int]:
        """Client ids in the order of the requests."""
        return [int(request.url.params["clientId"]) for request in self.asked]

    def _login(self, request: httpx.Request) -> Reply:
        self.logins.append(dict(parse_qsl(request.content.decode())))
        self.login_headers.append(request.headers)
        return self._tokens.pop(0) if self._tokens else token_answer(len(self.logins))

    def _answer(self, request: httpx.Request) -> Reply:
        assert request.url.path == "/api/data-exchange/trigger", request.url
        self.asked.append(request)
        self.bearers.append(request.headers["Authorization"])
        client_id = int(request.url.params["clientId"])
        reply = self.answers.get(client_id, httpx.Response(200, content=json.dumps({"client": client_id})))
        if isinstance(reply, list):
            return reply.pop(0) if len(reply) > 1 else reply[0]
        return reply


WITHOUT_CREDENTIALS = 9001
"""A client in the database that the query must leave out."""


@dataclass
class ArchiveWorld(PipelineWorld):
    """What surrounds the archive's tasks: client database, DEX API, S3."""

    SETTINGS = {"archive_concurrency": 4, "order_results_bucket": "archive"}  # noqa: RUF012 - declared by the base class

    database: Path
    dex: FakeDex = field(default_factory=FakeDex)
    s3: FakeS3 = field(default_factory=FakeS3)

    @contextmanager
    def attached(self) -> Iterator[Self]:
        """Stand in for the outside during the block: three clients, a DEX API that answers, an empty bucket."""
        with super().attached():
            self.set_clients([11, 12, 13])
            self.set_connection("dex_db", conn_type="sqlite", host=str(self.database))
            self.set_connection(
                "dex_api",
                conn_type="http",
                host=BASE_URL,
                login="dex-client",
                password=SECRET,
                extra={"token_url": TOKEN_URL, "scope": "dex/trigger:all"},
            )
            yield self

    def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"s3": self.s3}, {"http": self.dex.http}

    def set_clients(self, ids: Sequence[int | str]) -> None:
        self.database.unlink(missing_ok=True)
        with sqlite3.connect(self.database) as database:
            database.executescript(
                """
                CREATE TABLE Client (ClientID INTEGER, name TEXT, OAuth2ClientCredentialsID INTEGER);
                CREATE TABLE ClientServiceExt (ClientID INTEGER, ServiceID INTEGER);
                """
            )
            rows = [(number, f"Client {number}", 1) for number in ids]
            database.executemany("INSERT INTO Client VALUES (?, ?, ?)", rows)
            database.execute("INSERT INTO Client VALUES (?, 'Left out', NULL)", (WITHOUT_CREDENTIALS,))
            services = [(number, 2) for number in [*ids, WITHOUT_CREDENTIALS]]
            database.executemany("INSERT INTO ClientServiceExt VALUES (?, ?)", services)
        database.close()

    def rename(self, client_id: int, name: str) -> None:
        """Give a client in the database another name."""
        with sqlite3.connect(self.database) as database:
            database.execute("UPDATE Client SET name = ? WHERE ClientID = ?", (name, client_id))
        database.close()

    def manifest(self) -> dict[str, Any]:
        (key,) = [key for key in self.s3.keys("manifests/") if key.count("/") > 2]
        return json.loads(self.s3.bodies(key)[-1] or b"")
