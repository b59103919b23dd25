"""The surroundings of the call-details DAGs: bucket, ledger, queue, parameters, and the API, which a test scripts."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from include.clients.tokens import Keys, TokenCache, key_login
from tests.worlds.dynamodb import TABLE, FakeLedgerTable
from tests.worlds.http import Reply, ScriptedPartner
from tests.worlds.pipeline import PLANTED, PLANTED_TOKEN, PipelineWorld
from tests.worlds.s3 import BUCKET, FakeIngestBucket
from tests.worlds.sqs import QUEUE_URL, FakeSqs

POST_URL = "https://calls.test/api/batches"
LOGIN_URL = "https://calls.test/api/login"
ACCESS, SECRET = f"4ccess-{PLANTED}", f"s3cret-{PLANTED}"
TOKEN = PLANTED_TOKEN
KEYS = Keys(ACCESS, SECRET)


class FakeTime:
    """A clock that stands until somebody sleeps, or a test moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """As ``time.sleep``, but at once."""
        self.slept.append(seconds)
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """As ``asyncio.sleep``, but at once; the others get their turn."""
        self.pass_by(seconds)
        await asyncio.sleep(0)


class FakeCallDetails(ScriptedPartner):
    """Answers as scripted and remembers the requests.

    Args:
        logins: replies of the login in turn; beyond them, fresh tokens.
        answers: replies by idempotency key, in turn; the last one stays. Other keys are accepted.
    """

    def __init__(self, *, logins: Iterable[Reply] = (), answers: dict[str, list[Reply]] | None = None) -> None:
        self._logins = list(logins)
        self.answers = answers or {}
        self.login_requests: list[httpx.Request] = []
        self.posted: list[httpx.Request] = []
        self.tokens: list[str] = []

    def reply_to(self, request: httpx.Request) -> Reply:
        return self._log_in(request) if str(request.url) == LOGIN_URL else self._take(request)

    def login(self, time: FakeTime | None = None) -> TokenCache:
        """The tokens of this API, fetched anew, in this time."""
        time = time or FakeTime()
        return TokenCache(key_login(LOGIN_URL, KEYS, self.http), attempts=3, clock=time, sleep=time.sleep)

    @property
    def keys(self) -> Counter[str]:
        """How often each idempotency key was posted."""
        return Counter(request.headers["Idempotency-Key"] for request in self.posted)

    def _log_in(self, request: httpx.Request) -> Reply:
        self.login_requests.append(request)
        fresh = httpx.Response(200, json={"token": f"{TOKEN}-{len(self.login_requests)}"})
        return self._logins.pop(0) if self._logins else fresh

    def _take(self, request: httpx.Request) -> Reply:
        self.posted.append(request)
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        replies = self.answers.get(request.headers["Idempotency-Key"], [httpx.Response(200, json={})])
        return replies.pop(0) if len(replies) > 1 else replies[0]


def logged_in_as(request: httpx.Request) -> dict[str, Any]:
    return json.loads(request.content)


class FakeSsm:
    """Quacks like a boto3 SSM client; ``parameters`` are its values by name."""

    def __init__(self) -> None:
        self.parameters = {"/copyazure/accesskey": ACCESS, "/copyazure/secretkey": SECRET}
        self.calls = 0

    def get_parameters(self, *, Names: list[str], WithDecryption: bool) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert WithDecryption
        self.calls += 1
        found = [{"Name": name, "Value": self.parameters[name]} for name in Names if name in self.parameters]
        return {"Parameters": found}


@dataclass
class CallDetailsWorld(PipelineWorld):
    """What surrounds the tasks of the call-details DAGs: bucket, ledger, queue, parameters, API."""

    SETTINGS = {  # noqa: RUF012 - declared by the base class
        "ingest_bucket": BUCKET,
        "order_results_bucket": BUCKET,
        "ingest_ledger_table": TABLE,
        "call_details_dlq_url": QUEUE_URL,
        "max_records_per_batch": 2,
    }

    s3: FakeIngestBucket = field(default_factory=FakeIngestBucket)
    table: FakeLedgerTable = field(default_factory=FakeLedgerTable)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    ssm: FakeSsm = field(default_factory=FakeSsm)
    api: FakeCallDetails = field(default_factory=FakeCallDetails)
    time: FakeTime = field(default_factory=FakeTime)

    @contextmanager
    def attached(self) -> Iterator[Self]:
        with super().attached():
            self.set_connection("call_details_api", conn_type="http", host=POST_URL, extra={"auth_url": LOGIN_URL})
            yield self

    def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        aws = {"s3": self.s3, "dynamodb": self.table, "sqs": self.sqs, "ssm": self.ssm}
        parts = {"now": self.time, "monotonic": self.time, "pause": self.time.sleep}
        return aws, {"http": self.api.http, **parts}

    def receipt(self) -> dict[str, Any]:
        (key,) = self.s3.present("receipts/")
        return json.loads(self.s3.body(key))

    def posted(self) -> list[Any]:
        """The records that the API was sent, batch by batch."""
        return [json.loads(request.content)["records"] for request in self.api.posted]
