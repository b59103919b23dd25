"""Who may ask what: every route of the page as every role."""

from collections.abc import Awaitable

import pytest
from fastapi.routing import APIRoute

from airflow_ext.defaults import OPERATIONS_VIEWS
from airflow_ext.operations.app import SCRIPT
from airflow_ext.outside import outside
from tests.worlds.operations import OperationsPage

SHELL, METADATA, BODY, CHANGE = "shell", "metadata", "body", "change"
ALLOWED = {
    SHELL: {"viewer", "auditor", "operator", "admin"},
    METADATA: {"viewer", "auditor", "operator", "admin"},
    BODY: {"auditor", "operator", "admin"},
    CHANGE: {"operator", "admin"},
}
_DAY = "/evidence/clients/{client}/days/{day}"
ROUTES = {
    "GET /static/operations.js": SHELL,
    "GET /options": SHELL,
    "GET /evidence/clients": METADATA,
    "GET /evidence/clients/{client}": METADATA,
    f"GET {_DAY}": METADATA,
    f"GET {_DAY}/body": BODY,
    f"GET {_DAY}/difference": BODY,
    f"GET {_DAY}/download": BODY,
    f"GET {_DAY}/proof": BODY,
    "GET /days": METADATA,
    "GET /days/plan": METADATA,
    "GET /days/{day}": METADATA,
    "GET /files/waiting": METADATA,
    "GET /files/under-way": METADATA,
    "GET /files/done": METADATA,
    "GET /files/dead-letters": METADATA,
    "GET /files/dead-letters/body": BODY,
    "GET /orders": METADATA,
    "GET /orders/csv": METADATA,
    "GET /events/owners": METADATA,
    "GET /events/owner": METADATA,
    "GET /events/failed": METADATA,
    "POST /events/replay": CHANGE,
    "POST /events/replay-failed": CHANGE,
    "POST /events/webhook": CHANGE,
    "POST /events/test": CHANGE,
    "GET /tonight": METADATA,
}
PARTS = {"{client}": "1000", "{day}": "2026-03-01"}
QUERY = (
    "version=v1&other=v1&first=2026-03-01&last=2026-03-02&day=2026-03-01&owner=acme&since=2026-03-01T00:00:00Z"
    "&key=dead-letter/a"
)


def test_every_route_is_in_the_table(page: OperationsPage) -> None:
    found = {
        f"{method} {route.path}" for route in page.app.routes if isinstance(route, APIRoute) for method in route.methods
    }
    assert found == set(ROUTES)
    assert len(page.app.routes) == len(found), "something is mounted that is no route with guards"


@pytest.mark.parametrize("route", ROUTES)
def test_route_answers_those_who_may(page: OperationsPage, route: str) -> None:
    method, path = route.split()
    for part, value in PARTS.items():
        path = path.replace(part, value)
    options = {"method": method} | ({"json": {}} if method == "POST" else {})
    statuses = {user: page.ask(f"{path}?{QUERY}", user=user, **options).status_code for user in (None, *page.tokens)}
    assert statuses.pop(None) == 401
    assert {user for user, status in statuses.items() if status != 403} == ALLOWED[ROUTES[route]]
    assert max(statuses.values()) < 500


def test_script_is_what_lies_in_the_folder_and_is_not_sent_twice(page: OperationsPage) -> None:
    answer = page.ask("/static/operations.js")
    assert answer.content == SCRIPT.read_bytes()
    assert answer.headers["content-type"].startswith("text/javascript")
    again = page.ask("/static/operations.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_answer_that_does_not_come_in_time_says_so(page: OperationsPage) -> None:
    async def too_late(work: Awaitable[object], seconds: float) -> object:
        await work
        raise TimeoutError

    with outside.replaced(within=too_late):
        late = page.get("/days")
    assert late["strips"] == ["no answer within 5 s: AWS is slow or cannot be reached; try again"]
    assert page.get("/days")["strips"] == [], "it is not kept"


def test_option_makes_the_page_read_only(page: OperationsPage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.get("/options") == {"actions": True, "runbook": "RUNBOOK.md", "views": OPERATIONS_VIEWS}
    monkeypatch.setenv("AIRFLOW__PIPELINES__OPERATIONS_ACTIONS", "False")
    assert page.get("/options")["actions"] is False
    refused = page.ask("/events/webhook", method="POST", json={"owner": "acme", "active": False})
    assert (refused.status_code, "operations_actions" in refused.text) == (403, True)


def test_form_of_another_site_changes_nothing(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    body = '{"owner": "acme", "active": false}'
    refused = page.ask("/events/webhook", method="POST", content=body, headers={"Content-Type": "text/plain"})
    assert refused.status_code in (415, 422)
    assert page.tables.events.subscriptions["acme"]["active"] == {"BOOL": True}


@pytest.mark.parametrize("sent", ['"\\ud800"', "NaN", "1e400", "[]", "}"])
def test_value_that_cannot_be_used_is_named_and_not_quoted(page: OperationsPage, sent: str) -> None:
    body = f'{{"owner": {sent}, "event_id": "e"}}'
    refused = page.ask("/events/replay", method="POST", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("owner: Input should be a valid string" if sent != "}" else "10: JSON")
