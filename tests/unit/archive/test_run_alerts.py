from dataclasses import replace
from datetime import date

from include.alerts import RunRef, Severity
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, cut
from include.archive.run import digest, not_listed

CLIENTS = tuple(Client(number, f"Client {number}") for number in (11, 12, 13))


def manifest(*failed: int, clients: tuple[Client, ...] = CLIENTS, max_tasks: int = 10) -> Manifest:
    slices = cut(clients, max_tasks=max_tasks, clients_per_task=2)
    plan = Plan("run 1", 0, date(2026, 3, 8), False, 16, "", clients, slices)
    return Manifest(
        plan,
        tuple(
            ClientOutcome(client.id, Result.FAILED, error="answered 404")
            if client.id in failed
            else ClientOutcome(client.id, Result.UNCHANGED)
            for client in clients
        ),
    )


def log_url(task: str, index: int | None) -> str:
    return f"http://airflow.test/{task}/{index}"


RUN = RunRef("p", "run 1", log_url)


def test_success_calls_for_no_alert() -> None:
    assert digest(manifest(), RUN, uri="s3://b/k") is None


def test_failed_clients_become_one_alert_with_a_line_each() -> None:
    alert = digest(manifest(11, 13), RUN, uri="s3://b/k")
    assert alert.severity is Severity.ERROR
    assert alert.subject == "[ERROR] p: 2 of 3 clients not archived for 2026-03-08"
    assert "manifest: s3://b/k" in alert.text
    assert "run: run 1" in alert.text
    assert "- client 11 (Client 11) in archive_client[0]: answered 404" in alert.text
    assert "log: http://airflow.test/archive_client/2" in alert.text
    assert "client 12" not in alert.text


def test_client_without_a_usable_id_is_among_the_failures() -> None:
    found = manifest(11)
    found = replace(found, plan=replace(found.plan, unusable=(("Grid", "its id is no number"),)))
    text = digest(found, RUN, uri="s3://b/k").text
    assert "2 of 4 clients not archived" in text
    assert "a client (Grid) in list_clients: its id is no number" in text


def test_grouped_client_is_found_at_the_map_index_of_its_group() -> None:
    alert = digest(manifest(13, max_tasks=2), RUN, uri="s3://b/k")
    assert "- client 13 (Client 13) in archive_client[1]: answered 404" in alert.text


def test_no_clients_is_a_warning_that_points_at_the_query() -> None:
    alert = digest(manifest(clients=()), RUN, uri="s3://b/k")
    assert alert.severity is Severity.WARNING
    assert "no client to archive for 2026-03-08" in alert.subject
    assert "http://airflow.test/list_clients/None" in alert.text


def test_failed_listing_names_task_reason_and_log() -> None:
    alert = not_listed(RUN, reason="no database")
    assert alert.severity is Severity.ERROR
    assert "the list of clients in list_clients: no database" in alert.text
    assert "http://airflow.test/list_clients/None" in alert.text
