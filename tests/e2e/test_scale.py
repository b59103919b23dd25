"""More clients than a run may map."""

from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import Archive
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.secrets import Secrets

CLIENTS = range(10_001, 10_241)


def test_240_clients_share_tasks_and_a_retry_asks_only_for_those_that_failed(
    stack: Stack,
    pipeline: Pipeline,
    partners: Partners,
    archive: Archive,
    use_clients: UseClients,
    secrets: Secrets,
    new_day: NewDay,
) -> None:
    use_clients(CLIENTS)
    secrets.change(stack.settings_variable, max_mapped_clients=200, clients_per_task=50)
    partners.order({"share": 0.1, "seed": 7, "status": 500})
    day = new_day()
    run = pipeline.run(trigger_date=day)

    assert run.state == "success"
    assert len(run.mapped) == 5
    assert "10001-10048 (48 clients)" in run.mapped
    manifest = archive.manifest(day)
    assert manifest["successful_archives"] == manifest["total_clients"] == len(CLIENTS)
    assert [line["client_id"] for line in manifest["clients"]] == list(CLIENTS)
    assert list(archive.versions_of_day(day).values()) == [1] * len(CLIENTS)

    answered = {client: [call["status"] for call in calls] for client, calls in partners.questions(day).items()}
    assert set(answered) == set(CLIENTS)
    failures = [status for statuses in answered.values() for status in statuses if status == 500]
    assert len(failures) > 10
    assert all(statuses == [500] * (len(statuses) - 1) + [200] for statuses in answered.values())
