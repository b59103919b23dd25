"""The partner stubs as one app: rules on real answers, journal, management, and no secret anywhere."""

import asyncio
from typing import Any

import httpx
import pytest

from local.partners.app import PartnerStubs
from local.partners.dex import credentials_from_environment
from local.sample.client_database import BROKEN_CLIENT_ID
from tests.unit.local.partners.conftest import SECRET, set_rules

FORM = {"grant_type": "client_credentials", "client_id": "me", "client_secret": SECRET}
TRIGGER = "/data-exchange/trigger"
QUESTION = {"clientId": "1014", "triggerDate": "2025-03-09"}
WEBHOOK = "/slack/services/T000/B000/hook-token"


async def log_in(client: httpx.AsyncClient) -> None:
    """Fetch a token and use it from now on."""
    response = await client.post("/oauth2/token", data=FORM)
    client.headers["authorization"] = f"Bearer {response.json()['access_token']}"


async def journal(client: httpx.AsyncClient, **filters: str) -> dict[str, Any]:
    return (await client.get("/journal", params=filters)).json()


async def test_a_client_logs_in_and_gets_answers_and_the_journal_tells(client: httpx.AsyncClient) -> None:
    refused = await client.get(TRIGGER, params=QUESTION)
    assert refused.status_code == 401
    await log_in(client)
    answer = await client.get(TRIGGER, params=QUESTION)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()[0]["clientId"] == 1014
    shown = await journal(client)
    assert [(call["path"], call["status"], call["authorized"]) for call in shown["calls"]] == [
        (TRIGGER, 401, False),
        ("/oauth2/token", 200, True),
        (TRIGGER, 200, True),
    ]
    assert shown["calls"][2]["query"] == QUESTION
    assert shown["calls"][2]["client_id"] == "1014"
    assert shown["counts"] == {TRIGGER: {"200": 1, "401": 1}, "/oauth2/token": {"200": 1}}


async def test_the_broken_sample_client_gets_a_page_until_the_rules_are_replaced(client: httpx.AsyncClient) -> None:
    await log_in(client)
    question = QUESTION | {"clientId": str(BROKEN_CLIENT_ID)}
    page = await client.get(TRIGGER, params=question)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!DOCTYPE html>")
    await set_rules(client)
    repaired = await client.get(TRIGGER, params=question)
    assert repaired.json()
    await client.delete("/control")
    assert (await client.get(TRIGGER, params=question)).text == page.text


async def test_a_rule_replaces_only_what_it_names(client: httpx.AsyncClient) -> None:
    await log_in(client)
    original = await client.get(TRIGGER, params=QUESTION)
    await set_rules(client, {"path": TRIGGER, "status": 202, "headers": {"X-Trace": "1"}})
    changed = await client.get(TRIGGER, params=QUESTION)
    assert (changed.status_code, changed.headers["x-trace"], changed.content) == (202, "1", original.content)
    await set_rules(client, {"path": TRIGGER, "body_base64": "bnVsbA=="})
    assert (await client.get(TRIGGER, params=QUESTION)).content == b"null"
    await set_rules(client, {"path": TRIGGER, "body": ""})
    assert (await client.get(TRIGGER, params=QUESTION)).content == b""


async def test_an_error_status_comes_with_retry_after_and_an_error_body(client: httpx.AsyncClient) -> None:
    await log_in(client)
    await set_rules(client, {"path": TRIGGER, "status": 429, "headers": {"Retry-After": "3"}, "count": 1})
    busy = await client.get(TRIGGER, params=QUESTION)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "3")
    assert busy.json()["error"] == "Too Many Requests"
    assert (await client.get(TRIGGER, params=QUESTION)).status_code == 200
    shown = await journal(client, path=TRIGGER)
    assert [(call["status"], call.get("rule")) for call in shown["calls"]] == [(429, 0), (200, None)]


async def test_a_status_without_content_has_none(client: httpx.AsyncClient) -> None:
    await log_in(client)
    await set_rules(client, {"path": TRIGGER, "status": 204})
    answer = await client.get(TRIGGER, params=QUESTION)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


async def test_a_header_of_a_rule_takes_the_place_of_the_partners_own(client: httpx.AsyncClient) -> None:
    await set_rules(client, {"path": "/oauth2", "headers": {"Cache-Control": "max-age=5"}})
    response = await client.post("/oauth2/token", data=FORM)
    assert response.headers.get_list("cache-control") == ["max-age=5"]


async def test_form_values_match_too(client: httpx.AsyncClient) -> None:
    await set_rules(client, {"match": {"grant_type": "client_credentials"}, "status": 503, "count": 1})
    statuses = [(await client.post("/oauth2/token", data=FORM)).status_code for _ in range(2)]
    assert statuses == [503, 200]


async def test_latency_holds_up_each_call_and_not_the_others(client: httpx.AsyncClient) -> None:
    await log_in(client)
    await set_rules(client, latency_ms=200)
    answers = await asyncio.gather(*(client.get(TRIGGER, params=QUESTION) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
    shown = await journal(client, path=TRIGGER)
    assert shown["max_concurrent"][TRIGGER] == 30
    assert min(call["duration_ms"] for call in shown["calls"]) >= 200
    # A rule's latency takes the place of the general one, which would be ten minutes.
    await set_rules(client, {"match": {"clientId": "1021"}, "latency_ms": 0}, latency_ms=600_000)
    assert (await client.get(TRIGGER, params=QUESTION | {"clientId": "1021"})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "answer"),
    [
        (WEBHOOK, '{"text": "3 clients failed"}', 200, "ok"),
        (WEBHOOK, '{"blocks": [{"type": "divider"}]}', 200, "ok"),
        (WEBHOOK, '{"text": ""}', 400, "no_text"),
        (WEBHOOK, "[1]", 400, "invalid_payload"),
        (WEBHOOK, "text", 400, "invalid_payload"),
        ("/slack/services", '{"text": "x"}', 404, "no_service"),
        ("/slack/services/T000//hook-token", '{"text": "x"}', 404, "no_service"),
    ],
)
async def test_slack_takes_messages_and_the_journal_keeps_them(
    client: httpx.AsyncClient, path: str, body: str, status: int, answer: str
) -> None:
    response = await client.post(path, content=body)
    assert (response.status_code, response.text) == (status, answer)
    (call,) = (await journal(client, path="/slack"))["calls"]
    assert (call["path"], call["status"]) == ("/slack/services", status)
    assert call.get("body") == (body if status == 200 else None)


async def test_no_secret_and_no_token_is_in_journal_or_control(client: httpx.AsyncClient) -> None:
    await client.post("/oauth2/token", data=FORM | {"grant_type": SECRET[:0]})
    await log_in(client)
    token = client.headers["authorization"].removeprefix("Bearer ")
    await client.get(TRIGGER, params=QUESTION | {"access_token": token})
    await client.post("/oauth2/token", params={"client_secret": SECRET})
    await client.get(f"/oauth2/token?secret={SECRET}")
    for path in (WEBHOOK, WEBHOOK.replace("services", "service")):
        await client.post(path, json={"text": "hello"})
    shown = await journal(client)
    assert shown["matched"] == 7
    for text in (str(shown), (await client.get("/control")).text):
        for hidden in (SECRET, token, "hook-token"):
            assert hidden not in text
    assert shown["calls"][-1]["path"] == "/slack/…"


async def test_unserved_paths_and_methods_say_what_is_served(client: httpx.AsyncClient) -> None:
    missing = await client.get("/data-exchange/triggers")
    assert missing.status_code == 404
    assert TRIGGER in missing.json()["message"]
    wrong = await client.post(TRIGGER)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "document: not JSON"),
        (b"\xff", "document: not JSON"),
        (b'{"rules": [{"status": 500, "sahre": 1}]}', "rules[0].sahre: unknown field; allowed: path"),
        (b'{"rules": [{"status": 500, "path": "/dex"}]}', "rules[0].path: no partner serves it; allowed: /"),
        (b'{"rules": [{"status": 500, "match": {"client_secret": "x"}}]}', "rules[0].match: no partner takes"),
    ],
)
async def test_a_bad_control_document_is_answered_422_and_changes_nothing(
    client: httpx.AsyncClient, content: bytes, problem: str
) -> None:
    before = (await client.get("/control")).json()
    response = await client.put("/control", content=content)
    assert response.status_code == 422
    assert response.json()["problems"][0].startswith(problem)
    assert (await client.get("/control")).json() == before


@pytest.mark.parametrize("query", ["since=yesterday", "limit=-1", "paht=/slack"])
async def test_a_bad_journal_filter_is_answered_422(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/journal?{query}")
    assert response.status_code == 422
    assert response.json()["problems"][0].startswith(query.partition("=")[0])


async def test_the_journal_can_be_cleared_and_read_from_a_number_on(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.get(TRIGGER)
    assert [call["n"] for call in (await journal(client, since="1", limit="1"))["calls"]] == [3]
    assert (await client.delete("/journal")).status_code == 204
    assert (await journal(client))["counts"] == {}


async def test_a_cut_needs_the_server_and_says_so(client: httpx.AsyncClient) -> None:
    await set_rules(client, {"path": TRIGGER, "cut": "before"})
    with pytest.raises(RuntimeError, match="under uvicorn only"):
        await client.get(TRIGGER, params=QUESTION)
    shown = await journal(client)
    assert shown["counts"] == {TRIGGER: {"failed": 1}}
    assert shown["max_concurrent"] == {TRIGGER: 1}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"DEX_CLIENT_ID": "me", "DEX_CLIENT_SECRET": "s"}, "lifespan.startup.complete"),
        ({"DEX_CLIENT_ID": "me"}, "lifespan.startup.failed"),
    ],
)
def test_the_server_starts_only_with_credentials(environ: dict[str, str], expected: str) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = PartnerStubs(lambda: credentials_from_environment(environ))
    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent[0]["type"] == expected
    assert expected.endswith("complete") or sent[0]["message"].startswith("DEX_CLIENT_SECRET is not set")
