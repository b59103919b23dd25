"""The DEX stub: tokens, refusals, and answers that are the same bytes for the same question."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlencode

import pytest

from local.partners.calls import Answer, Call
from local.partners.control import Control
from local.partners.dex import SCOPE, TOKEN_PATH, TRIGGER_PATH, Credentials, Dex, has_nothing_to_report, trigger_body

GOOD = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "s3cret", "scope": SCOPE}
QUESTION = {"clientId": "1014", "triggerDate": "2025-03-09"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Asks a DEX stub the way the app does."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.control = Control()
        self.dex = Dex(self.control, lambda: Credentials("me", "s3cret"), clock=self.clock)
        self._answers = {each.path: each.answer for each in self.dex.endpoints()}

    def token_request(self, form: Mapping[str, str]) -> Answer:
        """Post a form to the token endpoint."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._answers[TOKEN_PATH](Call(TOKEN_PATH, {}, headers, urlencode(form).encode()))

    def token(self) -> str:
        return json.loads(self.token_request(GOOD).body)["access_token"]

    def trigger(self, authorization: str | None, query: Mapping[str, str] = QUESTION) -> Answer:
        """Ask for a trigger response with this Authorization header."""
        headers = {} if authorization is None else {"authorization": authorization}
        return self._answers[TRIGGER_PATH](Call(TRIGGER_PATH, query, headers, b""))


def parsed(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_the_token_endpoint_answers_what_oauth2_asks_for() -> None:
    caller = Caller()
    caller.control.replace({"token_expires_in": 90})
    answer = caller.token_request(GOOD)
    assert answer.status == 200
    assert parsed(answer) | {"access_token": "…"} == {
        "access_token": "…",
        "token_type": "Bearer",
        "expires_in": 90,
        "scope": SCOPE,
    }
    assert ("cache-control", "no-store") in answer.headers


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": "sömeone"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "unsupported_grant_type"),
        ({"scope": "dex/trigger:none"}, 400, "invalid_scope"),
    ],
)
def test_a_wrong_token_request_is_refused(change: dict[str, str], status: int, error: str) -> None:
    answer = Caller().token_request(GOOD | change)
    assert (answer.status, parsed(answer)["error"]) == (status, error)
    assert "access_token" not in parsed(answer)


def test_a_token_opens_the_api_until_it_expires() -> None:
    caller = Caller()
    caller.control.replace({"token_expires_in": 60})
    authorization = f"Bearer {caller.token()}"
    caller.clock.now += 59
    assert caller.trigger(authorization).status == 200
    caller.clock.now += 1
    expired = caller.trigger(authorization)
    assert (expired.status, expired.authorized) == (401, False)
    assert caller.trigger(f"Bearer {caller.token()}").status == 200


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer made-up", "Basic bWU6czNjcmV0"])
def test_without_a_token_of_its_own_it_answers_401(authorization: str | None) -> None:
    caller = Caller()
    caller.token()
    answer = caller.trigger(authorization)
    assert (answer.status, answer.authorized, answer.client_id) == (401, False, "1014")


def test_expire_tokens_makes_all_of_them_invalid() -> None:
    caller = Caller()
    tokens = [caller.token(), caller.token()]
    caller.dex.tokens.expire()
    assert [caller.trigger(f"Bearer {token}").status for token in tokens] == [401, 401]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"clientId": ""}, "clientId"),
        ({"clientId": "0"}, "clientId"),
        ({"clientId": "-3"}, "clientId"),
        ({"clientId": "1014x"}, "clientId"),
        ({"clientId": "١٢"}, "clientId"),
        ({"triggerDate": ""}, "triggerDate"),
        ({"triggerDate": "2025-02-30"}, "triggerDate"),
        ({"triggerDate": "20250209"}, "triggerDate"),
        ({"triggerDate": "2025-W06-7"}, "triggerDate"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(change: dict[str, str], named: str) -> None:
    caller = Caller()
    answer = caller.trigger(f"Bearer {caller.token()}", QUESTION | change)
    assert answer.status == 400
    assert parsed(answer)["message"].startswith(named)
    assert answer.authorized


def test_the_same_question_gets_the_same_bytes_in_every_process() -> None:
    # Fixed here because comparing two calls in one process would not notice a hash seeded by the process.
    digest = hashlib.sha256(trigger_body(1014, date(2025, 3, 9))).hexdigest()
    assert digest == "b374904413007ae44fb129b6851a2db215943d6187cc8ae089df1efcaecb3798"


def test_the_revision_of_the_control_reaches_the_answer() -> None:
    caller = Caller()
    before = caller.trigger(f"Bearer {caller.token()}").body
    caller.control.replace({"revision": 7})
    after = caller.trigger(f"Bearer {caller.token()}").body
    assert before == trigger_body(1014, date(2025, 3, 9), 0)
    assert after == trigger_body(1014, date(2025, 3, 9), 7)


def test_an_answer_is_json_that_does_not_survive_being_written_again() -> None:
    body = trigger_body(1014, date(2025, 3, 9))
    records = json.loads(body)
    assert all(record["clientId"] == 1014 for record in records)
    assert all(record["occurredAt"].startswith("2025-03-09T") for record in records)
    assert re.search(rb'"value":\d+\.\d\d0,', b"".join(trigger_body(1014 + 7 * n, date(2025, 3, 9)) for n in range(20)))
    assert json.dumps(records).encode() != body


def test_about_one_client_in_eight_has_nothing_to_report_whatever_the_day() -> None:
    quiet = [client for client in range(1000, 3100, 7) if has_nothing_to_report(client)]
    assert 20 <= len(quiet) <= 60
    assert {trigger_body(client, date(2025, 3, day), day) for client in quiet for day in (1, 2)} == {b"[]"}


def test_the_secret_is_not_in_the_credentials_repr() -> None:
    assert "s3cret" not in repr(Credentials("me", "s3cret"))
