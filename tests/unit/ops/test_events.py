from typing import Any

import httpx

from ops.environment import Environment
from ops.events import owner
from tests.worlds.dynamodb import EVENTS, SUBSCRIPTIONS, FakeEventTables, event_item


class Tables(Environment):
    """An environment that has nothing but the tables of events and subscriptions."""

    def output(self, name: str) -> str:
        return {"EventsTableName": EVENTS, "SubscriptionsTableName": SUBSCRIPTIONS}[name]

    def aws(self, service: str, *, connections: int = 10, attempts: int = 3) -> Any:
        return self.session


def test_owner_whose_webhook_is_off_is_shown_why_and_what_waits() -> None:
    tables = FakeEventTables()
    tables.add(event_item(1, created=0.0))
    tables.subscribe("acme", active=False)
    tables.subscriptions["acme"]["deactivated_reason"] = {"S": "the receiver answered 410"}
    environment = Tables("test", tables, None, {}, httpx.Client())
    report = owner(environment, "acme")
    assert [row["event_id"] for row in report.rows] == ["evt_000000000001"]
    assert "Webhook https://receiver.test/hook: off (the receiver answered 410)" in report.notes
    del tables.subscriptions["acme"]["url"]
    assert any(note.startswith("Webhook without a URL: off") for note in owner(environment, "acme").notes)
