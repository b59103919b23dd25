"""Pages of Airflow's UI in a real browser."""

from playwright.sync_api import expect

from tests.worlds.browser import OpenPage


def test_the_home_page_lists_every_pipeline(open_page: OpenPage) -> None:
    page = open_page("/dags")
    for name in ("DEX trigger archive", "Energy auction", "Call details: watch for files", "Event delivery"):
        expect(page.get_by_role("link", name=name).first).to_be_visible()
