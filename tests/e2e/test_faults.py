"""Partners that fail: what passes is retried as far as needed, what does not pass fails that client at once."""

import json
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import httpx

from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import DAG_ID, Archive
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners, begun
from tests.worlds.live.pipeline import Pipeline

RETRY_AFTER, SERVER_ERRORS, CUT, CUT_IN_BODY, SLOW, EXPIRED, SOUND = range(1001, 1008)

PASSING: dict[int, tuple[int, dict[str, Any]]] = {
    RETRY_AFTER: (2, {"count": 1, "status": 429, "headers": {"Retry-After": "2"}}),
    SERVER_ERRORS: (3, {"count": 2, "status": 503}),
    # On a connection that the login has used before: the client sends a GET again at once, on another.
    CUT: (1, {"count": 1, "cut": "before"}),
    CUT_IN_BODY: (2, {"count": 1, "cut": "mid"}),
    SLOW: (1, {"count": 1, "latency_ms": 2000}),
    EXPIRED: (1, {"count": 1, "expire_tokens": True}),
}
"""By client: how many attempts its task needs, and the fault."""

LASTING: dict[int, tuple[str, dict[str, Any]]] = {
    1001: ("DEX API answered 404", {"status": 404}),
    1002: ("DEX API answered 200 with HTML", {"body": "<!DOCTYPE html><p>Maintenance", "content_type": "text/html"}),
    1003: ("DEX API answered 200 with null", {"body": "null"}),
    1004: ("DEX API answered 200 with an empty body", {"body": ""}),
    1005: ("DEX API answered 200 with invalid JSON", {"body": '[{"triggerId": "0a'}),
    1006: ("DEX API answered 401", {"status": 401}),
}
"""By client: the reason that people are to read, and the fault."""

UNHARMED = [1007, 1008]


def about(client: int, day: date) -> dict[str, Any]:
    """The part of a rule that says which calls it is for."""
    return {"match": {"clientId": client, "triggerDate": day.isoformat()}}


def test_faults_that_pass_are_retried_only_as_far_as_needed(
    pipeline: Pipeline, partners: Partners, archive: Archive, use_clients: UseClients, new_day: NewDay
) -> None:
    clients = [*PASSING, SOUND]
    use_clients(clients)
    day = new_day()
    partners.order(*(fault | about(client, day) for client, (_, fault) in PASSING.items()))
    run = pipeline.run(trigger_date=day)

    assert run.state == "success"
    attempts = {int(name): task["try_number"] for name, task in run.mapped.items()}
    assert attempts == {client: number for client, (number, _) in PASSING.items()} | {SOUND: 1}
    questions = partners.questions(day)
    for client in clients:
        # Tokens that expired in mid-run cost whoever was under way one more question.
        faults = [call for call in questions[client] if "rule" in call]
        others = [call["status"] for call in questions[client] if "rule" not in call and call["status"] != 401]
        count = PASSING[client][1]["count"] if client in PASSING else 0
        assert len(faults) == count
        assert others == ([] if client == SLOW and faults[0]["status"] == 200 else [200]), client
    assert [call["status"] for call in questions[EXPIRED]] == [401, 200]
    asked, asked_again = (begun(call) for call in questions[RETRY_AFTER][:2])
    assert (asked_again - asked).total_seconds() >= 2
    assert {client: archive.body(client, day) for client in clients} == partners.answers(clients, day)
    assert set(archive.versions_of_day(day).values()) == {1}


def test_faults_that_last_fail_their_client_at_once_and_people_hear_of_all_in_one_message(
    stack: Stack,
    pipeline: Pipeline,
    partners: Partners,
    archive: Archive,
    inbox: Inbox,
    use_clients: UseClients,
    new_day: NewDay,
) -> None:
    use_clients([*LASTING, *UNHARMED])
    day = new_day()
    partners.order(*(fault | about(client, day) for client, (_, fault) in LASTING.items()))
    run = pipeline.run(trigger_date=day)

    assert run.state == "failed"
    attempts = {int(name): (task["state"], task["try_number"]) for name, task in run.mapped.items()}
    assert attempts == dict.fromkeys(LASTING, ("failed", 1)) | dict.fromkeys(UNHARMED, ("success", 1))
    asked = {client: len(calls) for client, calls in partners.questions(day).items()}
    # A refused token is renewed once: that is no retry.
    assert asked == dict.fromkeys([*LASTING, *UNHARMED], 1) | {1006: 2}
    assert all(archive.versions(client, day) == [] for client in LASTING)
    assert {client: archive.body(client, day) for client in UNHARMED} == partners.answers(UNHARMED, day)
    manifest = archive.manifest(day)
    assert (manifest["successful_archives"], manifest["failed_archives"]) == (2, 6)
    assert [error["client_id"] for error in manifest["errors"]] == list(LASTING)

    sns, slack = inbox.about(run.id)
    assert len(sns) == len(slack) == 1
    assert json.loads(slack[0])["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == sns[0]
    assert "6 of 8 clients not archived" in sns[0]
    lines = sns[0].splitlines()
    for client, (reason, _) in LASTING.items():
        index = run.mapped[str(client)]["map_index"]
        start = f"- client {client} (Łódź <Grid> & Sons {client}) in archive_client[{index}]: {reason}"
        (position,) = (number for number, line in enumerate(lines) if line.startswith(start))
        link = lines[position + 1].strip().removeprefix("log: ")
        assert_link(stack, link, pipeline, run_id=run.id, client=client, index=index)
        log = pipeline.log_lines(run.id, "archive_client", map_index=index)
        first_error = next(line["event"] for line in log if line.get("level") == "error")
        assert f"1 of 1 clients failed: client {client}: {reason}" in first_error
    assert not any(f"client {client}" in sns[0] for client in UNHARMED)


def assert_link(stack: Stack, link: str, pipeline: Pipeline, *, run_id: str, client: int, index: int) -> None:
    """The UI answers at the link, and the API knows the failed task instance that it names."""
    assert link.startswith(f"{stack.airflow_url}/dags/{DAG_ID}/runs/")
    assert httpx.get(link).status_code == 200
    path = urlsplit(link).path
    assert path.endswith(f"/tasks/archive_client/mapped/{index}")
    quoted_run = path.split("/runs/")[1].split("/tasks/")[0]
    place = f"/dags/{DAG_ID}/dagRuns/{quoted_run}/taskInstances/archive_client/{index}"
    task = pipeline.airflow.request("GET", place)
    assert (task["dag_run_id"], task["state"]) == (run_id, "failed")
    assert task["rendered_map_index"].startswith(f"{client} ")
    assert f"client {client}" in pipeline.log(run_id, "archive_client", map_index=index)
