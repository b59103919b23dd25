"""Days: the calendar, the clients of a day, the plan of a backfill."""

import json
from datetime import date, timedelta

import msgspec
import pytest

from airflow_ext.operations.reading import MOST_CALLS
from airflow_ext.operations.views.days import DayManifest
from include.archive.keys import manifest_key
from tests.worlds.operations import TODAY, OperationsPage

DAY = date(2026, 3, 2)


def test_calendar_has_the_counts_of_twelve_months(page: OperationsPage) -> None:
    page.archive(date(2025, 3, 31), {1000: b"{}"})
    page.archive(date(2025, 4, 1), {1000: b"{}", 1001: "DEX API answered 503"})
    page.archive(DAY, {1000: b"{}", 1001: b"{}"})
    found = page.get("/days")
    assert (found["first"], found["last"]) == ("2025-04-01", TODAY.isoformat())
    counts = {each["day"]: (each["successful_archives"], each["total_clients"]) for each in found["days"]}
    assert counts == {"2026-03-02": (2, 2), "2025-04-01": (1, 2)}


def test_calendar_of_a_year_keeps_to_its_calls_and_reads_the_rest_next_time(page: OperationsPage) -> None:
    for back in range(330):
        page.archive(TODAY - timedelta(days=back), {1000: b"{}"})
    answer = page.ask("/days")
    assert int(answer.headers["x-aws-calls"]) == MOST_CALLS
    assert answer.json()["left_out"] == ["the counts of older days"]
    assert sum("total_clients" in each for each in answer.json()["days"]) == MOST_CALLS - 1
    again = page.ask("/days")
    assert again.json()["left_out"] == []
    assert int(again.headers["x-aws-calls"]) == 330 - MOST_CALLS + 2
    page.archive(TODAY, {1001: b"{}"}, run="later")
    changed = page.ask("/days", headers={"Cache-Control": "no-cache"})
    assert int(changed.headers["x-aws-calls"]) == 2


def test_day_shows_who_failed_first_and_why(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b"{}", 1001: "DEX API answered 503", 1002: b"[]"})
    found = page.get(f"/days/{DAY}")
    assert [(row["client_id"], row["outcome"], row["reason"]) for row in found["rows"]] == [
        (1001, "failed", "DEX API answered 503"),
        (1000, "archived", None),
        (1002, "archived", None),
    ]
    assert (found["failed"], found["successful_archives"], found["total_clients"]) == ([1001], 2, 3)
    assert [row["client_id"] for row in page.get(f"/days/{DAY}?q=client 1002")["rows"]] == [1002]
    assert [row["client_id"] for row in page.get(f"/days/{DAY}?outcome=failed")["rows"]] == [1001]


def test_name_with_half_a_surrogate_pair_is_shown(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b"{}"}, name="Half \ud83d")
    assert page.get(f"/days/{DAY}")["rows"][0]["client_name"] == "Half \ud83d 1000"


def test_number_that_is_none_is_shown_as_text(page: OperationsPage) -> None:
    counts = dict.fromkeys(("total_clients", "successful_archives", "failed_archives", "unchanged"), 1)
    line = {"client_id": 1000, "outcome": "archived", "bytes": float("nan")}
    body = json.dumps({**counts, "errors": [], "clients": [line]}).encode()
    page.s3.put_object(Bucket="archive", Key=manifest_key(DAY), Body=body)
    assert page.get(f"/days/{DAY}")["rows"][0]["bytes"] == "nan"


@pytest.mark.parametrize(
    "name", ["Client", 'Mark "},{" Ltd', "Brace { Ltd", '{"client_id":1003,', "End ]} Ltd", '],"runs":[ "clients":[']
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_some_lines_are_the_same_as_of_all_whatever_the_names_are(name: str, separators: tuple[str, str]) -> None:
    counts = dict.fromkeys(("total_clients", "successful_archives", "failed_archives", "unchanged"), 60)
    lines = [{"client_id": 1000 + n, "outcome": "archived", "client_name": f"{name} {n}"} for n in range(60)]
    errors = [{"client_id": 1003, "error": f"{name} answered 503"}]
    document = {**counts, "errors": errors, "clients": lines, "runs": [{"run_id": "a"}, {"run_id": "b"}]}
    day = DayManifest.read("key", json.dumps(document, separators=separators).encode())
    assert msgspec.to_builtins(day.head) == {name: document[name] for name in (*counts, "errors", "runs")}
    assert [line.client_name for line in day.lines()] == [f"{name} {n}" for n in range(60)]
    assert [day.first_lines(most) for most in (1, 25, 60, 75)] == [day.lines()[:most] for most in (1, 25, 60, 75)]
    assert [day.line_of(client) for client in range(1000, 1060)] == day.lines()
    assert day.line_of(999) is None
    assert DayManifest.read("key", json.dumps({**document, "clients": []}).encode()).first_lines(25) == []


def test_second_page_of_a_day_has_the_rest(page: OperationsPage) -> None:
    page.archive(DAY, dict.fromkeys(range(1000, 1030), b"{}"))
    found = page.get(f"/days/{DAY}?cursor=25")
    assert ([row["client_id"] for row in found["rows"]], found["total"], found["next"]) == (
        list(range(1025, 1030)),
        30,
        None,
    )


@pytest.mark.parametrize("body", [b'{"clients": [', b'{"clients": 7}', b"[NaN]"])
def test_manifest_that_is_none_is_reported(page: OperationsPage, body: bytes) -> None:
    page.s3.put_object(Bucket="archive", Key=manifest_key(DAY), Body=body)
    (strip,) = page.get(f"/days/{DAY}")["strips"]
    assert strip.startswith("manifests/trigger/20260302.json is no manifest of a day: ")


def test_objects_of_days_that_no_calendar_has_hide_nothing(page: OperationsPage) -> None:
    page.archive(TODAY, {1000: b"[1]"})
    for key in ("manifests/trigger/20261399.json", "trigger/1000/1000_trigger_20261399.json"):
        page.s3.put_object(Bucket="archive", Key=key, Body=b"{}")
    assert [each["day"] for each in page.get("/days")["days"]] == [TODAY.isoformat()]
    assert [day["day"] for day in page.get("/evidence/clients/1000")["days"] if day["state"] == "archived"] == [
        TODAY.isoformat()
    ]


@pytest.mark.parametrize(
    "path", ["/days?to={}", "/days/{}", "/evidence/clients/1?to={}", "/evidence/clients/1/days/{}"]
)
def test_day_before_there_could_be_one_is_refused(page: OperationsPage, path: str) -> None:
    assert page.ask(path.format("0001-01-01")).status_code == 422
    assert page.ask(path.format("1970-01-01")).status_code == 200
    assert page.ask(path.format("9999-12-31")).status_code == 200


def test_day_without_a_run_says_so(page: OperationsPage) -> None:
    assert page.get(f"/days/{DAY}") | {"manifest": None, "rows": []} == page.get(f"/days/{DAY}")


def test_plan_counts_what_is_there(page: OperationsPage) -> None:
    for back in range(3):
        page.archive(DAY - timedelta(days=back), {1000: b"{}", 1001: b"{}" if back else "DEX API answered 503"})
    path = "/days/plan?first=2026-02-25&last=2026-03-03&client=1000&client=1001"
    assert page.get(path) == {"days": 7, "clients": 2, "there": 5, "missing": 9, "strips": [], "left_out": []}
    everybody = page.get("/days/plan?first=2026-02-25&last=2026-03-03")
    assert (everybody["there"], everybody["without_manifest"]) == (5, 4)


def test_plan_of_more_days_than_can_be_read_does_not_take_some_of_them_for_all(page: OperationsPage) -> None:
    for back in range(MOST_CALLS + 1):
        page.archive(DAY - timedelta(days=back), {1000: b"{}"})
    found = page.get(f"/days/plan?first={DAY - timedelta(days=MOST_CALLS)}&last={DAY}")
    assert (found["days"], found["there"]) == (MOST_CALLS + 1, None)
    assert found["left_out"] == ["the counts of some days"]


@pytest.mark.parametrize(
    "query", ["first=2026-03-02&last=2026-03-01", "first=2020-01-01&last=2026-01-01", "first=now&last=2026-01-01", ""]
)
def test_plan_of_no_range_is_refused(page: OperationsPage, query: str) -> None:
    assert page.ask(f"/days/plan?{query}").status_code == 422
