"""The stack itself, while it runs; how it ends is checked where it is stopped, in ``conftest``."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from local.processes.supervisor import StackError
from local.stack.control import StackOptions, running_stack
from local.stack.description import Stack
from tests.worlds.live.processes import family


def test_a_second_stack_in_the_same_directory_is_refused_and_harms_nothing(stack: Stack) -> None:
    state = Path(stack.logs).parent
    before, processes = Stack.read(state), family(state)
    second = running_stack(StackOptions(state_directory=state))
    with pytest.raises(StackError, match=f"already running in {state} at {stack.airflow_url}"), second:
        pass
    assert all(process.is_running() for process in processes if process.pid in before.pids.values())
    assert Stack.read(state) == before


def test_the_events_api_answers_a_browser_of_another_origin_before_it_calls(stack: Stack) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{stack.events_api_url}/events", headers=asked, verify=False)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
