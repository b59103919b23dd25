"""Orders: the runs of a day, and what was not accepted."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from airflow_ext.operations.reading import MOST_CALLS
from include.auction.keys import alerts_key, order_id, orders_key
from include.auction.models import OrderOutcome, Result, Summary
from include.clients.s3 import put_json
from tests.worlds.operations import OperationsPage
from tests.worlds.s3 import raising, s3_error

DAY = date(2026, 3, 8)


def run(page: OperationsPage, number: int, *results: Result, reason: str = "no") -> str:
    """The summary of the day's run of that number."""
    s3: Any = page.s3
    at = datetime(2026, 3, 8, tzinfo=UTC) + timedelta(minutes=5 * number)
    name = f"scheduled__{at.isoformat()}"
    outcomes = [
        OrderOutcome(index, order_id(name, index), result, reason=None if result is Result.ACCEPTED else reason)
        for index, result in enumerate(results)
    ]
    Summary(name, DAY, tuple(outcomes)).save(s3, "archive")
    return name


def test_day_has_its_runs_and_each_order_that_was_not_accepted(page: OperationsPage) -> None:
    run(page, 0)
    name = run(page, 1, Result.ACCEPTED, Result.REJECTED, Result.ERRORED, reason="quantity <0>")
    s3: Any = page.s3
    delivered = {f"{order_id(name, 1)}/rejected": ["SNS", "Slack"]}
    put_json(s3, "archive", alerts_key(orders_key(DAY, name)), {"delivered": delivered})
    found = page.get(f"/orders?day={DAY}")
    assert sorted((each["total"], each["accepted"], each["errored"]) for each in found["runs"]) == [
        (0, 0, 0),
        (3, 1, 1),
    ]
    assert [(row["index"], row["result"], row["reason"], row["alerted"]) for row in found["rows"]] == [
        (1, "rejected", "quantity <0>", ["SNS", "Slack"]),
        (2, "errored", "quantity <0>", []),
    ]
    assert {row["time"] for row in found["rows"]} == {"2026-03-08T00:05:00+00:00"}
    assert [row["index"] for row in page.get(f"/orders?day={DAY}&result=errored")["rows"]] == [2]


def test_full_day_keeps_to_its_calls_and_says_what_it_left_out(page: OperationsPage) -> None:
    for number in range(288):
        run(page, number, Result.REJECTED)
    first = page.ask(f"/orders?day={DAY}")
    assert int(first.headers["x-aws-calls"]) == MOST_CALLS
    assert first.json()["left_out"] == ["the older runs of the day"]
    assert len(first.json()["rows"]) == 25
    again = page.get(f"/orders?day={DAY}")
    assert (again["left_out"], again["total"]) == ([], 288)


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"not_accepted": 1}'])
def test_run_whose_summary_is_none_hides_no_other(page: OperationsPage, body: bytes) -> None:
    names = [run(page, number, Result.REJECTED) for number in range(3)]
    (middle,) = [key for key in page.s3.objects if key.startswith("summaries/") and "T00:05" in key]
    page.s3.put_object(Bucket="archive", Key=middle, Body=body)
    page.s3.put_object(Bucket="archive", Key=middle.rpartition("/")[0] + "/", Body=b"")
    found = page.get(f"/orders?day={DAY}")
    assert found["strips"] == [f"s3://archive/{middle} is no summary of a run"]
    known = {each["run_id"] for each in found["runs"] if "run_id" in each}
    assert (len(found["runs"]), known) == (3, {names[0], names[2]})
    assert [row["run_id"] for row in found["rows"]] == [names[2], names[0]]


def test_spreadsheet_has_the_whole_day_or_is_none(page: OperationsPage) -> None:
    names = [run(page, number, Result.REJECTED) for number in range(288)]
    lines = page.ask(f"/orders/csv?day={DAY}").text.splitlines()[1:]
    assert sorted(line.rpartition(",")[2] for line in lines) == sorted(names)

    run(page, 0, Result.REJECTED, Result.REJECTED)
    page.s3.before["GetObject"] = raising(s3_error("AccessDenied", "GetObject"))
    answer = page.ask(f"/orders/csv?day={DAY}")
    assert answer.status_code == 503
    assert "AccessDenied" in answer.json()["detail"]


def test_spreadsheet_gets_no_formula(page: OperationsPage) -> None:
    run(page, 1, Result.REJECTED, reason='=HYPERLINK("http://evil.test")')
    lines = page.ask(f"/orders/csv?day={DAY}").text.splitlines()
    assert lines[0] == "time,index,order_id,result,reason,run_id"
    assert "\"'=HYPERLINK(" in lines[1]
