"""The operations page as people use it: each of their questions, by clicking, on a live stack."""

import json
import re
import socket
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from local.processes.layout import LOOPBACK
from local.stack.description import Stack
from tests.e2e.conftest import UseClients
from tests.worlds.browser import OpenPage, Window
from tests.worlds.live.api_server import api_server, log_in, roles
from tests.worlds.live.archive import DAG_ID, Archive, key_of
from tests.worlds.live.auction import Results, orders, ready
from tests.worlds.live.call_details import Ingest, lines
from tests.worlds.live.delivery import Delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.waiting import wait_until

VIEWS = ("evidence", "days", "files", "orders", "events")
PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
ONE, OTHER = 1003, 1004
BRIGHTNESS = """name => {
    const context = document.createElement("canvas").getContext("2d");
    const page = document.querySelector(name === "color" ? ".ops" : "body");
    context.fillStyle = getComputedStyle(page).getPropertyValue(name);
    context.fillRect(0, 0, 1, 1);
    return Math.min(...context.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""
"""Of a colour, however it is written: 0 to 255."""


@pytest.fixture(scope="module")
def days_of_page() -> Iterator[date]:
    """Days of this module's own."""
    return (date(2023, 5, 1) + timedelta(days=7 * number) for number in range(50))


@pytest.fixture
def a_day(days_of_page: Iterator[date]) -> date:
    return next(days_of_page)


def at(page: str, **values: object) -> str:
    return f"/plugin/operations/{page}?" + "&".join(f"{name}={value}" for name, value in values.items())


def test_answer_of_a_client_and_day_is_two_clicks_from_home_and_its_body_one_more(
    open_page: OpenPage, pipeline: Pipeline, archive: Archive, use_clients: UseClients, a_day: date
) -> None:
    use_clients([ONE, OTHER])
    assert pipeline.run(trigger_date=a_day).state == "success"
    body = archive.body(ONE, a_day)
    page = open_page("/")
    page.get_by_role("link", name="Operations").first.click()
    page.get_by_label("Client", exact=True).fill(str(ONE))
    page.get_by_label("Day", exact=True).fill(a_day.isoformat())
    page.get_by_role("button", name="Show", exact=True).click()
    answer = page.get_by_role("region", name="Answer")
    expect(answer.get_by_text("as stored")).to_be_visible()
    expect(answer.get_by_text(key_of(ONE, a_day))).to_be_visible()

    answer.get_by_role("button", name="Show body").click()
    answer.get_by_role("button", name="Show as stored").click()
    expect(answer.get_by_label("Body")).to_have_text(body.decode())
    with page.expect_download() as download:
        answer.get_by_role("link", name="Download body").click()
    assert Path(download.value.path()).read_bytes() == body
    with page.expect_download() as download:
        answer.get_by_role("link", name="Download proof").click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"


def among_many(route: Route) -> None:
    """Answer as Airflow, which lists a hundred tasks at once, of a run whose clients share more than these."""
    asked = parse_qs(urlsplit(route.request.url).query)
    names = [f"{first}-{first + 9} (10 clients)" for first in range(0, OTHER + 10, 10)]
    tasks = [{"map_index": int(name.startswith("1000-")), "rendered_map_index": name} for name in names]
    begin = int(asked.get("offset", ["0"])[0])
    shown = [] if "rendered_map_index_prefix_pattern" in asked else tasks[begin : begin + 100]
    route.fulfill(json={"task_instances": shown})


def test_clients_that_failed_are_found_from_the_run_s_note_and_run_again_from_their_day(
    open_page: OpenPage, pipeline: Pipeline, archive: Archive, partners: Partners, use_clients: UseClients, a_day: date
) -> None:
    use_clients([ONE, OTHER])
    partners.order({"status": 404, "match": {"clientId": OTHER, "triggerDate": a_day.isoformat()}})
    failed = pipeline.run(trigger_date=a_day)
    assert failed.state == "failed"
    partners.order()
    page = open_page(f"/dags/{DAG_ID}/runs/{quote(failed.id)}")
    page.get_by_role("button", name="Edit note").click()
    to_view = page.get_by_role("link", name="operations page")
    expect(to_view).to_have_attribute("href", re.compile(rf"/plugin/operations/days\?day={a_day}$"))
    page.goto(at("days", to=a_day, day=a_day))
    day = page.get_by_role("region", name=f"Day {a_day}")
    row = day.get_by_role("row").filter(has_text=str(OTHER))
    expect(row).to_contain_text("DEX API answered 404")
    expect(row).to_contain_text(f"Łódź <Grid> & Sons {OTHER}")
    row.get_by_role("link", name="log", exact=True).click()
    expect(page).to_have_url(re.compile("/tasks/archive_client/mapped/1"))
    page.go_back()
    page.route("**/listMapped?*", among_many)
    row.get_by_role("link", name="log", exact=True).click()
    expect(page).to_have_url(re.compile("/tasks/archive_client/mapped/1"))
    page.unroute("**/listMapped?*")
    page.go_back()
    day.get_by_role("button", name="Run the 1 failed again").click()
    run = day.get_by_text("Started: ").get_by_role("link")
    expect(run).to_be_visible()
    assert pipeline.ended(run.inner_text()).state == "success"
    assert set(archive.versions_of_day(a_day)) == {key_of(client, a_day) for client in (ONE, OTHER)}


def test_backfill_of_a_week_for_two_clients_is_planned_before_it_starts(
    open_page: OpenPage, pipeline: Pipeline, archive: Archive, use_clients: UseClients, a_day: date
) -> None:
    use_clients([ONE, OTHER])
    assert pipeline.run(trigger_date=a_day, client_ids=[ONE]).state == "success"
    pipeline.wait_until_no_backfill()
    known = set(pipeline.run_ids())
    page = open_page(at("days"))
    form = page.get_by_role("region", name="Backfill")
    form.get_by_label("First day").fill(a_day.isoformat())
    form.get_by_label("Last day").fill((a_day + timedelta(days=1)).isoformat())
    form.get_by_label("Clients of the backfill").fill(f"{ONE} {OTHER}")
    form.get_by_role("button", name="Plan").click()
    expect(form.get_by_role("status")).to_contain_text("2 days × 2 clients: 1 there, 3 missing, starts 2 runs")
    assert set(pipeline.run_ids()) == known
    page.route(f"**/api/v2/dags/{DAG_ID}", lambda route: route.fulfill(json={"is_paused": True}))
    form.get_by_role("button", name="Start 2 runs").click()
    expect(form.get_by_role("alert")).to_contain_text("is paused")
    page.unroute(f"**/api/v2/dags/{DAG_ID}")
    form.get_by_role("button", name="Start 2 runs").click()
    expect(form.get_by_text("Backfill", exact=False).last).to_be_visible()
    wait_until(lambda: len(set(pipeline.run_ids()) - known) == 2, what="the backfill's runs")
    pipeline.wait_until_idle()
    for day in (a_day, a_day + timedelta(days=1)):
        assert set(archive.versions_of_day(day)) == {key_of(client, day) for client in (ONE, OTHER)}


def test_rejected_orders_of_a_day_are_listed_with_id_reason_and_where_was_alerted(
    open_page: OpenPage, auction: Pipeline, results: Results, functions: Functions
) -> None:
    function = functions.auction({"answer": ready([*orders(1), *orders(1, status="rejected")])})
    run = auction.run(function_a=function.name)
    (rejected,) = results.summary(run.id)["not_accepted"]
    page = open_page("/plugin/operations")
    page.get_by_role("link", name="Orders").click()
    # It may be another day by now.
    page.get_by_label("Day (UTC)").fill(results.day(run.id))
    # Another test may have asked for the same half a minute ago.
    page.get_by_role("button", name="Refresh").click()
    row = page.get_by_role("row").filter(has_text=rejected["order_id"])
    expect(row).to_contain_text("rejected")
    expect(row).to_contain_text("sns")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert rejected["order_id"] in Path(download.value.path()).read_text()
    row.get_by_role("link", name="log", exact=True).click()
    expect(page).to_have_url(re.compile("/tasks/process_order/mapped/1"))


def test_failed_order_s_run_is_cleared_with_what_follows_and_what_was_skipped_only_if_the_run_was_ended(
    open_page: OpenPage, auction: Pipeline, results: Results, functions: Functions
) -> None:
    function = functions.auction({"answer": ready([*orders(1), *orders(2, status="postponed")])})
    run = auction.run(function_a=function.name)
    failed, given_up = results.summary(run.id)["not_accepted"]
    # Somebody does without this order; Airflow does the last task again.
    auction.set_state(run.id, "process_order", "skipped", map_index=given_up["index"])
    assert auction.ended(run.id).state == "failed"
    page = open_page(at("orders", day=results.day(run.id)))
    page.get_by_role("button", name="Refresh").click()
    clear = page.get_by_role("row").filter(has_text=failed["order_id"]).get_by_role("button", name="Clear")
    clear.click()
    expect(page.get_by_text("Cleared 2 tasks of")).to_be_visible()
    assert {task["state"] for task in auction.ended(run.id).tasks} == {"success", "failed", "skipped"}

    auction.airflow.unpause(auction.dag_id, paused=True)
    try:
        # Cleared without what follows, so that the last task has failed before; then ended before any task began.
        auction.clear(run.id, "process_order")
        path = f"/dagRuns/{quote(run.id, safe='')}"
        auction.airflow.request("PATCH", f"/dags/{auction.dag_id}{path}", json={"state": "failed"})
        started = {"start_date": "2999-01-01T00:00:00Z"}
        page.route(f"**{path}", lambda route: route.fulfill(json={**route.fetch().json(), **started}))
        clear.click()
        expect(page.get_by_text("Cleared 4 tasks of")).to_contain_text(": they wait, as energy_auction is paused")
        page.unroute(f"**{path}")
        clear.click()
        expect(page.get_by_text("Nothing to clear: no task of the run has failed, and it is queued.")).to_be_visible()
    finally:
        auction.airflow.unpause(auction.dag_id)
    assert {task["state"] for task in auction.ended(run.id).tasks} == {"success", "failed"}


def test_day_of_auctions_is_a_strip_and_an_order_of_a_deleted_run_is_not_cleared(
    stack: Stack, browser: Browser, a_day: date
) -> None:
    failed = {"index": 0, "order_id": "of-a-deleted-run", "result": "errored", "reason": "Lambda B timed out"}
    runs = {
        f"scheduled__{a_day}T00:05:00+00:00": {"total": 2, "accepted": 2},
        f"manual__{a_day}T00:07:11+00:00": {"total": 1, "errored": 1, "not_accepted": [failed]},
        f"scheduled__{a_day}T12:00:00+00:00": {"total": 0},
    }
    for run, summary in runs.items():
        key = f"summaries/{a_day:%Y/%m/%d}/{run}.json"
        body = json.dumps({"run_id": run, **summary}).encode()
        stack.aws("s3").put_object(Bucket=stack.order_results_bucket, Key=key, Body=body)
    # Not by open_page: an answer of 404 is an error of the page for it.
    with Window(browser, stack.airflow_url) as opened:
        page = opened.open(at("orders", day=a_day))
        expect(page.get_by_role("img", name="3 runs of the day")).to_be_visible()
        slots = page.locator("svg.year rect").evaluate_all(
            "all => all.map(each => [each.textContent, each.getAttribute('fill')])"
        )
        assert len(slots) == 288
        assert slots[0] == ["00:00 UTC: no run", "var(--soft)"]
        assert slots[1] == ["00:05 UTC: 3 orders, 0 rejected, 1 failed", "var(--bad)"]
        assert slots[144] == ["12:00 UTC: 0 orders, 0 rejected, 0 failed", "var(--dim)"]
        page.get_by_role("button", name="Clear").click()
        expect(page.get_by_role("alert")).to_contain_text("was not found")
        # There is no such task: the page of the run says so.
        page.get_by_role("link", name="log", exact=True).click()
        expect(page).to_have_url(re.compile("/tasks/process_order$"))


def test_dead_letters_are_listed_and_some_or_all_of_them_replayed_after_a_plan(
    open_page: OpenPage, ingest: Ingest, replay: Pipeline, partners: Partners
) -> None:
    ingest.forget_dead_letters()
    file = ingest.drop("clicked <b>.txt", lines(1200))
    page = open_page("/plugin/operations/files")
    expect(page.get_by_role("row").filter(has_text=file.key)).to_be_visible()
    partners.order(file.rule(status=422))
    assert ingest.pipeline.run(key=file.key).state == "success"
    partners.order()
    page.get_by_role("button", name="Refresh").click()
    letters = page.get_by_role("row").filter(has=page.get_by_role("button", name="Body"))
    expect(letters.filter(has_text=file.key)).to_have_count(3)
    last = letters.filter(has_text="1,001-1,200")
    last.get_by_role("button", name="Body").click()
    expect(page.get_by_label("Body", exact=True).last).to_contain_text('"batchSize": 200')

    page.get_by_label("Choose all").check()
    last.get_by_label("Choose ").uncheck()
    page.get_by_role("button", name="Replay 2 chosen…").click()
    expect(page.get_by_text("2 of 3 dead letters: starts 1 run")).to_be_visible()
    page.get_by_role("button", name="Start the replay").click()
    expect(page.get_by_text("2 of 2 dead letters posted")).to_be_visible()
    expect(letters).to_have_count(1)
    assert ingest.taken(file) == [1, 1, 0]

    page.get_by_role("button", name="Replay all…").click()
    expect(page.get_by_text("1 of 1 dead letter: starts 1 run")).to_be_visible()
    page.get_by_role("button", name="Start the replay").click()
    expect(page.get_by_text("1 of 1 dead letters posted")).to_be_visible()
    expect(page.get_by_text("No dead letters.")).to_be_visible()
    assert ingest.taken(file) == [1, 1, 1]


def test_owner_sees_what_waits_and_the_webhook_is_switched(open_page: OpenPage, events_api: Delivery) -> None:
    owner = events_api.owner("clicked")
    event = events_api.keep(owner)
    page = open_page("/plugin/operations")
    page.get_by_role("link", name="Events").click()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("link", name=owner.name).click()
    expect(page.get_by_role("row").filter(has_text=event)).to_be_visible()
    page.get_by_role("button", name="Switch off").click()
    expect(page.get_by_text("webhook off")).to_be_visible()
    assert events_api.subscription(owner)["active"] is False
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("webhook on")).to_be_visible()


def test_home_has_a_line_for_each_pipeline_and_says_if_what_starts_its_runs_is_paused_or_fails(
    open_page: OpenPage,
) -> None:
    page = open_page(at("files"))
    watch = "**/api/v2/dags/call_details_watch"
    page.route(watch, lambda route: route.fulfill(json={**route.fetch().json(), "is_paused": True}))

    def failed(route: Route) -> None:
        if "call_details_watch" not in route.request.post_data_json["dag_ids"]:
            return route.continue_()
        run = {"dag_id": "call_details_watch", "dag_run_id": "of-the-watcher"}
        return route.fulfill(json={"dag_runs": [run], "total_entries": 3})

    page.route("**/dagRuns/list", failed)
    asked: list[dict[str, str]] = []
    page.on("request", lambda sent: sent.url.endswith("/dagRuns/list") and asked.append(sent.post_data_json))
    page.goto("/")
    card = page.get_by_role("region", name="Tonight")
    for name in ("Archive", "Auction", "Call details", "Events", "unpause call_details_watch"):
        expect(card.get_by_role("link", name=name, exact=True)).to_be_visible()
    runs = card.get_by_role("row").filter(has_text="Call details").get_by_role("link", name="3", exact=True)
    expect(runs).to_have_attribute("href", re.compile("/dags/call_details_watch/runs/of-the-watcher$"))
    # When it was for says nothing: tonight's backfill of a day long ago counts.
    assert {body["order_by"] for body in asked if "end_date_gte" in body} == {"-end_date"}


def test_page_of_a_dag_has_its_view_as_a_tab(open_page: OpenPage) -> None:
    page = open_page("/dags/energy_auction")
    # The link beside it leads to the whole page, and is there before the DAG's tabs are.
    page.locator('a[href*="/dags/energy_auction/"]').filter(has_text="Operations").click()
    expect(page.get_by_role("heading", name="Orders that were not accepted")).to_be_visible()


HOSTILE = "<img src=x onerror=\"document.title='owned'\"> \u202egnp.exe \u0007 {{ 7*7 }} </script>"


def test_hostile_names_reasons_and_bodies_are_shown_as_text(open_page: OpenPage, stack: Stack, a_day: date) -> None:
    body = json.dumps({"x": HOSTILE, "long": "<b>" * 330_000}).encode()
    s3 = stack.aws("s3")
    bucket = stack.archive_bucket
    s3.put_object(Bucket=bucket, Key=key_of(ONE, a_day), Body=body, Metadata={"sha256": "0" * 64})
    line = {"client_id": ONE, "client_name": HOSTILE, "key": key_of(ONE, a_day), "sha256": "0", "bytes": float("nan")}
    failed = {**line, "client_id": OTHER, "outcome": "failed", "run_id": "r", "version_id": None}
    document = {
        "trigger_date": a_day.isoformat(),
        "run_id": "r",
        **{"total_clients": 2, "successful_archives": 1, "failed_archives": 1, "unchanged": 0},
        "errors": [{"client_id": OTHER, "client_name": HOSTILE, "error": HOSTILE}],
        "clients": [{**line, "outcome": "archived", "run_id": HOSTILE, "version_id": None}, failed],
        "runs": [],
    }
    key = f"manifests/trigger/{a_day:%Y%m%d}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())
    page = open_page(at("days", to=a_day, day=a_day))
    day = page.get_by_role("region", name=f"Day {a_day}")
    # The mark that turns writing round and the bell are made visible; all else is there as it came.
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\u0007", "\u2407")
    expect(day.get_by_role("row").filter(has_text=str(OTHER))).to_contain_text(shown)
    page.goto(at("evidence", client=ONE, day=a_day))
    answer = page.get_by_role("region", name="Answer")
    expect(answer.get_by_text("CHANGED since it was stored")).to_be_visible()
    answer.get_by_role("button", name="Show body").click()
    expect(answer.get_by_label("Body", exact=True)).to_contain_text("onerror")
    assert page.evaluate("document.querySelectorAll('.ops img, .ops script, .ops b b').length") == 0
    assert "owned" not in page.title()


def test_page_fits_a_phone_and_the_dark(open_page: OpenPage) -> None:
    page = open_page("/plugin/operations", **PHONE)
    for view in VIEWS:
        page.goto(f"/plugin/operations/{view}")
        expect(page.locator("nav.tabs [aria-current=page]")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(BRIGHTNESS, "color") > 128 > page.evaluate(BRIGHTNESS, "background-color")


def test_newest_day_of_a_client_is_on_a_phone_screen_and_large_enough_for_a_finger(
    open_page: OpenPage, a_day: date
) -> None:
    page = open_page(at("evidence", client=ONE, to=a_day), **PHONE)
    square = page.locator(f"[data-day='{a_day}']").bounding_box()
    assert square["width"] >= 10
    assert 0 <= square["x"] <= 390 - square["width"]


def test_evidence_is_reached_by_keyboard_alone(
    open_page: OpenPage, pipeline: Pipeline, use_clients: UseClients, a_day: date
) -> None:
    use_clients([ONE])
    assert pipeline.run(trigger_date=a_day).state == "success"
    page = open_page(at("evidence", to=a_day, day=a_day - timedelta(days=1)))
    expect(page.get_by_label("Client", exact=True)).to_be_focused()
    page.keyboard.type(str(ONE))
    page.keyboard.press("Enter")
    year = page.get_by_label("365 days, one square each")
    expect(year).to_be_visible()
    # Once around the whole page, should it be drawn anew meanwhile.
    for _ in range(60):
        page.keyboard.press("Tab")
        if year.evaluate("each => each === document.activeElement"):
            break
    expect(year).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("region", name="Answer").get_by_text("as stored")).to_be_visible()


def body_of(page: Page, day: date) -> Page:
    """Ask for the body of one client's answer."""
    page.goto(at("evidence", client=ONE, day=day))
    page.get_by_role("button", name="Show body").click()
    return page


def test_roles_see_and_do_what_they_may(
    stack: Stack, browser: Browser, pipeline: Pipeline, archive: Archive, use_clients: UseClients, a_day: date,
    tmp_path: Path,
) -> None:  # fmt: skip
    use_clients([ONE])
    assert pipeline.run(trigger_date=a_day).state == "success"
    known = set(pipeline.run_ids())
    text = json.loads(archive.body(ONE, a_day))
    with api_server(stack, tmp_path, roles(tmp_path)) as url:
        logins = {user: log_in(url, user) for user in ("viewer", "auditor", "operator")}
        with Window(browser, url) as opened:
            anonymous = opened.open("/plugin/operations")
            expect(anonymous.get_by_label("Password")).to_be_visible()

            viewer = body_of(opened.open("/plugin/operations", **logins["viewer"]), a_day)
            expect(viewer.get_by_role("alert")).to_contain_text("Your role does not allow this")
            viewer.goto(at("days", to=a_day, day=a_day))
            viewer.get_by_label(f"Choose client {ONE}").check()
            viewer.get_by_role("button", name="Run 1 chosen again").click()
            expect(viewer.get_by_role("alert")).to_contain_text("Your role does not allow this")

            auditor = body_of(opened.open("/plugin/operations", **logins["auditor"]), a_day)
            auditor.get_by_role("button", name="Show as stored").click()
            assert json.loads(auditor.get_by_label("Body", exact=True).inner_text()) == text

            operator = opened.open(at("days", to=a_day, day=a_day), **logins["operator"])
            operator.get_by_label(f"Choose client {ONE}").check()
            operator.get_by_role("button", name="Run 1 chosen again").click()
            expect(operator.get_by_text("Started: ")).to_be_visible()
            assert opened.elsewhere == []
    wait_until(lambda: len(set(pipeline.run_ids()) - known) == 1, what="the operator's run")
    pipeline.wait_until_idle()
    asked = {"event": "operations.evidence", "limit": 100, "order_by": "-when"}
    entries = pipeline.airflow.request("GET", "/eventLogs", params=asked)["event_logs"]
    assert [entry["owner"] for entry in entries if a_day.isoformat() in entry["extra"]] == ["auditor"]


def test_services_out_of_reach_are_strips_of_a_page_that_stays(stack: Stack, browser: Browser, tmp_path: Path) -> None:
    with socket.socket() as silent:
        # Takes connections and never answers.
        silent.bind((LOOPBACK, 0))
        silent.listen(64)
        endpoint = f"http://{LOOPBACK}:{silent.getsockname()[1]}"
        extra = {"endpoint_url": endpoint, "region_name": stack.region}
        connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
        options = {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)}
        with api_server(stack, tmp_path, options) as url, Window(browser, url) as opened:
            # The page is loaded at the first request.
            page = opened.open("/plugin/operations/days")
            for view in VIEWS:
                page.goto(f"/plugin/operations/{view}")
                expect(page.locator("nav.tabs")).to_be_visible()
                expect(page.get_by_role("alert").first).to_contain_text("cannot be reached")
                expect(page.locator("nav.tabs")).to_be_visible()


def test_test_event_reaches_the_owner_s_webhook(open_page: OpenPage, delivery: Delivery) -> None:
    owner = delivery.owner("tested")
    page = open_page(at("events", owner=owner.name))
    page.get_by_role("button", name="Send a test event").click()
    stored = page.get_by_role("status").filter(has_text="is stored")
    event = stored.locator(".mono").inner_text()
    delivery.wait_for("delivered", event)
    assert delivery.arrived(owner) == [event]
    assert delivery.event(event)["event_type"] == "webhook.test"
