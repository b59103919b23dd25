"""Airflow's forms as a person fills them in, in a browser whose time zone is New York."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.browser import OpenPage
from tests.worlds.live.archive import DAG_ID, Archive, key_of
from tests.worlds.live.call_details import REPLAY_DAG_ID
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.waiting import wait_until

NEW_YORK = {"timezone_id": "America/New_York", "locale": "en-US", "viewport": {"width": 1300, "height": 1500}}
ALL = range(1000, 1120)
TWO = (1003, 1042)


def trigger_form(open_page: OpenPage, dag_id: str) -> Locator:
    """The form behind a DAG's button *Trigger*."""
    page: Page = open_page(f"/dags/{dag_id}", **NEW_YORK)
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog").last
    expect(form.get_by_text("Run Parameters")).to_be_visible()
    return form


def field(form: Locator, param: str) -> Locator:
    return form.locator(f"[name=element_{param}]")


def started(pipeline: Pipeline, known: set[str], *, count: int) -> list[dict[str, Any]]:
    """The runs beside those that are known, once there are so many and all have ended."""

    def found() -> list[dict[str, Any]]:
        runs = [run for run in pipeline.airflow.runs(pipeline.dag_id) if run["dag_run_id"] not in known]
        ended = all(run["state"] in ("success", "failed") for run in runs)
        return runs if len(runs) >= count and ended else []

    return wait_until(found, what="the runs that the form started", poll=1.0)


def test_a_date_and_client_ids_one_a_line_archive_that_day_of_these_clients(
    open_page: OpenPage, pipeline: Pipeline, archive: Archive, use_clients: UseClients, new_day: NewDay
) -> None:
    use_clients(ALL)
    day, known = new_day(), set(pipeline.run_ids())
    form = trigger_form(open_page, DAG_ID)
    field(form, "trigger_date").fill(day.isoformat())
    field(form, "client_ids").press_sequentially("\n".join(map(str, TWO)))
    form.get_by_test_id("trigger-dag-submit").click()
    (run,) = started(pipeline, known, count=1)
    assert run["state"] == "success"
    assert run["conf"] == {"trigger_date": day.isoformat(), "client_ids": list(map(str, TWO)), "force": False}
    assert set(archive.versions_of_day(day)) == {key_of(client, day) for client in TWO}


def test_a_backfill_of_three_days_and_two_clients_is_three_days_and_two_clients(
    open_page: OpenPage, pipeline: Pipeline, archive: Archive, use_clients: UseClients
) -> None:
    use_clients(ALL)
    pipeline.wait_until_no_backfill()
    days, known = [date(2026, 3, day) for day in (1, 2, 3)], set(pipeline.run_ids())
    form = trigger_form(open_page, DAG_ID)
    form.get_by_text("Backfill", exact=True).click()
    form.locator("input[name=from_date]").fill("2026-03-01T00:00")
    form.locator("input[name=to_date]").fill("2026-03-03T00:00")
    form.get_by_text("Override parameters on existing runs").click()
    field(form, "client_ids").press_sequentially("\n".join(map(str, TWO)))
    form.get_by_role("button", name="Run Backfill").click()
    runs = started(pipeline, known, count=len(days))
    assert {run["state"] for run in runs} == {"success"}
    evenings = sorted(
        datetime.fromisoformat(run["logical_date"]).astimezone(ZoneInfo("America/New_York")) for run in runs
    )
    assert [evening.date() for evening in evenings] == days
    for day in days:
        assert set(archive.versions_of_day(day)) == {key_of(client, day) for client in TWO}


def test_a_dry_run_of_a_replay_is_a_switch(open_page: OpenPage, replay: Pipeline) -> None:
    known = set(replay.run_ids())
    form = trigger_form(open_page, REPLAY_DAG_ID)
    field(form, "limit").fill("10")
    field(form, "dry_run").locator("..").click()
    form.get_by_test_id("trigger-dag-submit").click()
    (run,) = started(replay, known, count=1)
    given = {name: value for name, value in run["conf"].items() if value is not None}
    assert (run["state"], given) == ("success", {"limit": 10, "dry_run": True})
