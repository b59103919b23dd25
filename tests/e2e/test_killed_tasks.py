"""Tasks that die without a word: SIGKILL, as the kernel sends it when memory is short."""

import contextlib
import itertools

import psutil

from local.clients import has_ended
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import DAG_ID, Archive, key_of
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import running_tasks, service_of, standing_still
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

ATTEMPTS = 15
ARCHIVE_TASK = "archive_client"


def test_a_task_killed_in_the_middle_of_its_clients_resumes_where_it_was(
    stack: Stack,
    pipeline: Pipeline,
    partners: Partners,
    archive: Archive,
    use_clients: UseClients,
    secrets: Secrets,
    new_day: NewDay,
) -> None:
    first_half, second_half = range(2001, 2021), range(2021, 2041)
    use_clients([*first_half, *second_half])
    secrets.change(stack.settings_variable, max_mapped_clients=2, clients_per_task=20, archive_concurrency=2)
    partners.order(latency_ms=3_000)
    day = new_day()
    run_id = pipeline.start(trigger_date=day)

    def settled_of_first_half() -> set[int]:
        kept = archive.outcomes(day, run_id)
        return {outcome["client_id"] for outcome in kept if outcome["outcome"] == "archived"} & set(first_half)

    # A task of 20 clients, two at a time, takes 30 s here and notes every 5 s what it has done.
    settled = wait_until(settled_of_first_half, what="a note of the first task")
    (victim,) = (task for task in pipeline.tasks(run_id) if task["map_index"] == 0)
    running_tasks(stack)[victim["id"]].kill()
    partners.order()
    run = pipeline.ended(run_id)

    assert run.state == "success"
    assert {task["map_index"]: task["try_number"] for task in run.mapped.values()} == {0: 2, 1: 1}
    assert archive.versions_of_day(day) == {key_of(client, day): 1 for client in [*first_half, *second_half]}
    assert archive.manifest(day)["successful_archives"] == 40
    asked = {client: len(calls) for client, calls in partners.questions(day).items()}
    once = settled | set(second_half)
    assert {client: asked[client] for client in once} == dict.fromkeys(once, 1)
    assert max(asked.values()) == 2, "the task was killed while it asked for a client: that one is asked for again"


def test_answers_under_way_while_storage_stands_still_are_kept_once_though_their_task_dies(
    stack: Stack,
    pipeline: Pipeline,
    partners: Partners,
    archive: Archive,
    use_clients: UseClients,
    secrets: Secrets,
    new_day: NewDay,
) -> None:
    """Storage takes in what lies before it when it goes on, also the writes of a task that is dead by then."""
    clients, at_once = range(2101, 2125), 8
    use_clients(clients)
    secrets.change(stack.settings_variable, max_mapped_clients=1, clients_per_task=24, archive_concurrency=at_once)
    partners.order(latency_ms=3_000)
    day = new_day()
    run_id = pipeline.start(trigger_date=day)
    wait_until(lambda: archive.versions_of_day(day), what="the first answer in the archive", poll=0.05)
    with standing_still(service_of(stack, "emulator")):
        # All that are asked for at once have been answered, and wait for storage.
        wait_until(lambda: len(partners.questions(day)) >= 2 * at_once, what="answers that cannot be stored")
        (victim,) = (task for task in pipeline.tasks(run_id) if task["task_id"] == ARCHIVE_TASK)
        running_tasks(stack)[victim["id"]].kill()
        partners.order()
    run = pipeline.ended(run_id)

    assert run.state == "success"
    assert [task["try_number"] for task in run.mapped.values()] == [2]
    assert archive.versions_of_day(day) == {key_of(client, day): 1 for client in clients}
    assert {client: archive.body(client, day) for client in clients} == partners.answers([*clients], day)
    assert archive.manifest(day)["successful_archives"] == len(clients)


def test_a_run_whose_summary_is_killed_every_time_still_alerts_people_once(
    stack: Stack,
    pipeline: Pipeline,
    partners: Partners,
    archive: Archive,
    inbox: Inbox,
    use_clients: UseClients,
    new_day: NewDay,
) -> None:
    use_clients([1001])
    day = new_day()
    run_id = pipeline.start(trigger_date=day)
    seen: set[str] = set()
    killed: list[str] = []

    def kill_summaries() -> None:
        for instance, process in running_tasks(stack).items():
            if instance in seen:
                continue
            seen.add(instance)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()  # held while it is asked what it is
                tasks = {task["id"]: task["task_id"] for task in pipeline.tasks(run_id)}
                if tasks.get(instance) == "summarize":
                    process.kill()
                    killed.append(instance)
                else:
                    process.resume()

    polls = itertools.count()

    def ended() -> bool:
        kill_summaries()
        # A summary is to be caught as it starts; how the run is can wait.
        return next(polls) % 20 == 0 and has_ended(pipeline.airflow.run(DAG_ID, run_id))

    wait_until(ended, what="the end of the run", poll=0.05)
    assert pipeline.airflow.run(DAG_ID, run_id)["state"] == "failed"
    assert len(killed) == ATTEMPTS
    assert archive.body(1001, day) == partners.answers([1001], day)[1001]
    sns, slack = inbox.about(run_id)
    assert len(sns) == len(slack) == 1
    assert "the run failed before its summary could send an alert" in sns[0]
    assert f"{stack.airflow_url}/dags/{DAG_ID}/runs/" in sns[0]
