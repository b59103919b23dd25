"""The function on a store and a queue in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.unit.lambdas.events_api.calling import ENVIRONMENT, HANDLER, ID, Api


@pytest.fixture
def api(load: Callable[..., ModuleType], context: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api(load(HANDLER, **ENVIRONMENT), context)
    monkeypatch.setattr(api.module, "events", api.events)
    return api


@pytest.fixture
def posted(api: Api) -> str:
    """The id of an event of owner-1."""
    status, answer = api.post()
    assert (status, answer["event_id"]) == (201, ID)
    return ID
