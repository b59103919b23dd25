"""Pages of Airflow's UI in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.worlds.browser import OpenPage


def test_the_home_page_lists_every_pipeline(open_page: OpenPage) -> None:
    page = open_page("/dags")
    for dag_id in ("dex_trigger_archive", "energy_auction", "call_details_watch", "event_delivery"):
        expect(page.get_by_role("link", name=dag_id).first).to_be_visible()
