import json
from typing import Any

import httpx
import pytest

from local.demo.part import Part, rules, shown


class Stubs:
    """Keep a control document, as the partner stubs do."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"rules": [{"path": "/", "status": 500}], "latency_ms": 0, "revision": 3}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://stubs", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/control"
        if request.method == "PUT":
            self.document = json.loads(request.content)
        return httpx.Response(200, json=self.document)


def test_rules_come_before_those_that_are_there_and_go_again_whatever_happens() -> None:
    stubs = Stubs()
    before = stubs.document
    added = {"path": "/receivers/a", "count": 3, "status": 503}

    def fail() -> None:
        with stubs.client() as client, rules(client, added, latency_ms=200):
            assert stubs.document == {"rules": [added, *before["rules"]], "latency_ms": 200, "revision": 3}
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert stubs.document == before


@pytest.mark.parametrize(
    ("sns", "slack", "kept"),
    [
        (["order 1", "order 2"], ["order 2", "order 1"], [True, True]),
        (["order 1"], ["order 1", "order 2"], [False, True]),
        (["order 1", "order 2"], ["order 1", "order 1"], [True, False]),
        (["order 1", "order 2", "order 2"], [], [False, False]),
    ],
    ids=["all", "one missing", "one twice", "one too many"],
)
def test_each_failure_has_one_alert_a_channel_and_there_is_no_other(
    sns: list[str], slack: list[str], kept: list[bool]
) -> None:
    part = Part("name", "why")
    part.check_alerts(sns, slack, "order 1", "order 2")
    assert list(part.checks.values()) == kept
    assert part.passed is all(kept)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (httpx.Response(200, json={"city": "Łódź"}), '200 OK\n{\n  "city": "Łódź"\n}'),
        (httpx.Response(204), "204 No Content"),
    ],
)
def test_response_is_shown_as_it_is(response: httpx.Response, text: str) -> None:
    assert shown(response) == text
