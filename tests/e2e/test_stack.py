"""The stack itself, while it runs; how it ends is checked where it is stopped, in ``conftest``."""

from pathlib import Path

import httpx
import pytest

from local.processes.supervisor import StackError
from local.stack.control import StackOptions, running_stack
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import family, lose, service_of
from tests.worlds.live.waiting import wait_until

REPLACED = ("api-server", "scheduler", "dag-processor", "triggerer")


def test_a_second_stack_in_the_same_directory_is_refused_and_harms_nothing(stack: Stack) -> None:
    state = Path(stack.logs).parent
    before, processes = Stack.read(state), family(state)
    second = running_stack(StackOptions(state_directory=state))
    with pytest.raises(StackError, match=f"already running in {state} at {stack.airflow_url}"), second:
        pass
    assert all(process.is_running() for process in processes if process.pid in before.pids.values())
    assert Stack.read(state) == before


def test_services_that_keep_nothing_are_replaced_when_they_are_killed(
    stack: Stack, pipeline: Pipeline, use_clients: UseClients, new_day: NewDay
) -> None:
    use_clients([3001, 3002])
    state = Path(stack.logs).parent
    before = Stack.read(state)
    for name in REPLACED:
        lose(service_of(stack, name))
    wait_until(lambda: all(Stack.read(state).replaced.get(name) for name in REPLACED), what="others in their places")
    assert not set(before.pids.values()) & {Stack.read(state).pids[name] for name in REPLACED}

    def all_are_healthy() -> bool:
        try:
            health = httpx.get(f"{stack.airflow_url}/api/v2/monitor/health").json()
        except httpx.HTTPError:
            return False
        return all(health[name]["status"] == "healthy" for name in ("scheduler", "dag_processor", "triggerer"))

    wait_until(all_are_healthy, what="an Airflow that is well")
    assert pipeline.run(trigger_date=new_day()).state == "success"


def test_the_events_api_answers_a_browser_of_another_origin_before_it_calls(stack: Stack) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{stack.events_api_url}/events", headers=asked, verify=False)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
