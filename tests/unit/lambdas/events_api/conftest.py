"""The function on a store and a queue in memory."""

import secrets
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.worlds.events import MemoryEvents
from tests.worlds.events_api import ENVIRONMENT, HANDLER, ID, Api
from tests.worlds.sqs import FakeSqs
from tests.worlds.tokens import FakeSecret


@pytest.fixture
def api(load: Callable[..., ModuleType], aws: dict[str, Any], context: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Its first event has the id ``ID``, unless that is of an idempotency key."""
    store, queue, secret = MemoryEvents(), FakeSqs(), FakeSecret("s" * 64, name=ENVIRONMENT["EVENT_IDS_SECRET_ID"])
    aws |= {"dynamodb": store.table, "sqs": queue, "secretsmanager": secret}
    real, first = secrets.choice, iter(ID.removeprefix("evt_"))
    monkeypatch.setattr(secrets, "choice", lambda characters: next(first, None) or real(characters))
    return Api(load(HANDLER, **ENVIRONMENT), context, store, queue, secret)


@pytest.fixture
def posted(api: Api) -> str:
    status, answer = api.post()
    assert (status, answer["event_id"]) == (201, ID)
    return ID
