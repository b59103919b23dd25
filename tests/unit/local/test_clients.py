"""Airflow's REST API as the local stack calls it: what can be repeated is, and what starts a run is not."""

from collections.abc import Callable
from contextlib import nullcontext

import httpx
import pytest

from local.clients import AirflowApi
from local.processes.supervisor import StackError


class StackThatAnswers:
    """A stack whose Airflow answers as told."""

    def __init__(self, handler: Callable[[httpx.Request], httpx.Response]) -> None:
        self.handler = handler

    def airflow(self) -> httpx.Client:
        return httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(self.handler))


class Failing:
    """Lets so many calls time out, and answers the others."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        if self.calls <= self.times:
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(200, json={"dag_run_id": "r", "state": "running", "file_token": "t"})


def api(handler: Callable[[httpx.Request], httpx.Response]) -> AirflowApi:
    return AirflowApi(StackThatAnswers(handler))


def test_a_read_that_times_out_is_repeated() -> None:
    slow = Failing(times=2)
    assert api(slow).run("dag", "r")["state"] == "running"
    assert slow.calls == 3


def test_a_read_that_never_answers_fails_with_what_was_asked() -> None:
    with pytest.raises(StackError, match=r"did not answer GET /api/v2/dags/dag/dagRuns/r: timed out"):
        api(Failing(times=9)).run("dag", "r")


def test_a_trigger_that_times_out_is_not_repeated_for_it_may_have_started_a_run() -> None:
    slow = Failing(times=1)
    with pytest.raises(StackError, match="did not answer POST"):
        api(slow).trigger("dag")
    assert slow.calls == 1


def test_a_switch_that_times_out_is_repeated_and_the_file_is_read_at_once() -> None:
    slow = Failing(times=2)
    api(slow).unpause("dag")
    assert slow.calls == 4


@pytest.mark.parametrize(("status", "told"), [(409, None), (404, "answered 404 to PUT /parseDagFile: no such file")])
def test_a_file_that_is_about_to_be_read_is_no_error(status: int, told: str | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(status, text="no such file")
        return httpx.Response(200, json={"file_token": "t"})

    with pytest.raises(StackError, match=told) if told else nullcontext():
        api(answer).unpause("dag")


def test_a_refusal_is_reported_in_airflow_s_words() -> None:
    with pytest.raises(StackError, match=r"answered 409 to POST /dags/dag/dagRuns: it exists"):
        api(lambda request: httpx.Response(409, text="it exists")).trigger("dag")
