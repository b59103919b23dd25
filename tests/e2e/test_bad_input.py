"""Input that cannot be used: the error names what to correct, and nothing is written."""

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.processes.supervisor import StackError
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import Archive
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import TOKEN, Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.secrets import DEX_API, DEX_DB, PLANTED, Secrets
from tests.worlds.live.waiting import wait_until

CLIENTS = [1001, 1002]


@pytest.fixture(autouse=True)
def clients(use_clients: UseClients) -> None:
    use_clients(CLIENTS)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("trigger_date", "08.03.2026"),
        ("trigger_date", "2025-02-30"),
        ("trigger_date", 20250308),
        ("client_ids", "1001"),
        ("client_ids", []),
        ("client_ids", ["1001x"]),
        ("force", "yes"),
    ],
)
def test_a_malformed_param_is_refused_before_there_is_a_run(pipeline: Pipeline, param: str, value: Any) -> None:
    before = pipeline.run_ids()
    with pytest.raises(StackError, match=rf"answered 4\d\d.*{param}"):
        pipeline.start(**{param: value})
    assert pipeline.run_ids() == before


def test_an_unknown_client_a_future_day_and_a_misspelt_key_are_refused_and_wake_nobody(
    pipeline: Pipeline, partners: Partners, archive: Archive, inbox: Inbox, new_day: NewDay
) -> None:
    before = archive.listing()
    future = datetime.now(UTC).date() + timedelta(days=2)
    unknown_id = pipeline.start(trigger_date=new_day(), client_ids=[1001, 4711])
    future_id = pipeline.start(trigger_date=future)
    misspelt_id = pipeline.start(triggerdate=new_day(), force=True)

    says = {
        unknown_id: "param client_ids: 4711 not among the 2 clients that the query selects",
        future_id: f"trigger date {future} (from param trigger_date) is in the future",
        misspelt_id: "'triggerdate' in the run's configuration is no param of this DAG; did you mean 'trigger_date'?",
    }
    for run_id, reason in says.items():
        run = pipeline.ended(run_id)
        assert (run.state, run.task("list_clients")["state"]) == ("failed", "failed")
        assert run.task("list_clients")["try_number"] == 1
        assert reason in pipeline.log(run_id, "list_clients")
        assert inbox.about(run_id) == ([], []), "who started it sees it"
    assert archive.listing() == before
    assert partners.questions(future) == {}


def test_unusable_settings_are_named_where_people_can_still_be_alerted(
    stack: Stack, pipeline: Pipeline, archive: Archive, inbox: Inbox, secrets: Secrets, new_day: NewDay
) -> None:
    before = archive.listing()
    secrets.put(stack.settings_variable, {"environment": "local", "max_mapped_clients": 0})
    run = pipeline.run(trigger_date=new_day())

    assert run.state == "failed"
    assert {task["try_number"] for task in run.tasks if task["state"] == "failed"} == {1}
    # The topic is that of the option: an alert needs no settings.
    (sns,), (slack,) = inbox.about(run.id)
    log = pipeline.log(run.id, "list_clients")
    for reason in (
        "Airflow Variable 'settings' (Secrets Manager: airflow/variables/settings)",
        "archive_bucket: Field required",
        "alerts_topic_arn: Field required",
        "max_mapped_clients: Input should be greater than or equal to 1",
    ):
        assert reason in json.loads(slack)["text"]
        assert reason in sns
        assert reason in log
    assert archive.listing() == before


def test_wrong_credentials_are_refused_once_and_not_tried_again(
    pipeline: Pipeline, partners: Partners, archive: Archive, inbox: Inbox, secrets: Secrets, new_day: NewDay
) -> None:
    before, calls = archive.listing(), partners.last()
    secrets.change(DEX_API, password=f"{PLANTED}-wrong-client-secret")
    refused = assert_refused(pipeline, archive, inbox, pipeline.start(trigger_date=new_day()), before)
    assert (
        "refused client id 'local-archive' (401: invalid_client): check login (client id), password (client secret)"
        in refused
    )
    assert [call["status"] for call in partners.calls(TOKEN, since=calls)] == [401]


def test_a_database_out_of_reach_and_a_missing_secret_are_named_and_once_fixed_the_run_goes_on(
    pipeline: Pipeline, partners: Partners, archive: Archive, secrets: Secrets, use_clients: UseClients, new_day: NewDay
) -> None:
    """The database's secret is in the shape that the original Lambda read."""
    day, before = new_day(), archive.listing()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    secrets.put(
        DEX_DB,
        {
            "host": "127.0.0.1",
            "port": port,
            "username": "archive",
            "password": f"{PLANTED}-database",
            "database": "dex",
        },
    )
    run_id = pipeline.start(trigger_date=day)
    attempt = wait_for_log(pipeline, run_id, "DatabaseUnavailableError")
    unreachable = pipeline.log(run_id, "list_clients", attempt=attempt)
    assert f"cannot read clients through connection 'dex_db' (mssql 127.0.0.1:{port}, database dex)" in unreachable
    assert archive.listing() == before

    secrets.delete(DEX_API)
    use_clients(CLIENTS)
    attempt = wait_for_log(pipeline, run_id, "connection 'dex_api' (Secrets Manager: airflow/connections/dex_api)")
    missing = pipeline.log(run_id, "list_clients", attempt=attempt)
    assert "put its JSON there" in missing
    assert archive.listing() == before

    secrets.restore(DEX_API)
    run = pipeline.ended(run_id)
    assert run.state == "success"
    assert {client: archive.body(client, day) for client in CLIENTS} == partners.answers(CLIENTS, day)


def assert_refused(pipeline: Pipeline, archive: Archive, inbox: Inbox, run_id: str, before: list[Any]) -> str:
    """The run failed at once, told people once and wrote nothing; returns the alert, whose reason the log has too."""
    run = pipeline.ended(run_id)
    assert run.state == "failed"
    listed = run.task("list_clients")
    assert (listed["state"], listed["try_number"]) == ("failed", 1)
    (sns,), (_,) = inbox.about(run_id)
    reason = sns.partition("in list_clients: ")[2].splitlines()[0]
    assert len(reason) > 40
    assert reason.partition(": ")[2] in pipeline.log(run_id, "list_clients")
    assert archive.listing() == before
    return reason


def wait_for_log(pipeline: Pipeline, run_id: str, text: str) -> int:
    """The number of the first attempt of ``list_clients`` that says ``text``."""

    def found() -> int:
        tasks = pipeline.tasks(run_id)
        attempts = next((task["try_number"] for task in tasks if task["task_id"] == "list_clients"), 0)
        return next((n for n in range(1, attempts + 1) if text in pipeline.log(run_id, "list_clients", attempt=n)), 0)

    return wait_until(found, what=f"{text!r} in the log of list_clients")
