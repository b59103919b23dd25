"""What the events API's part of the demo finds: read back from the API, the receivers, the queue, and Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from local.airflow_api import AirflowApi
from local.demo_kit import ask, json_of, peek
from local.inbox import receive_alerts, slack_messages
from local.partners.management import ARRIVALS_PATH
from local.stack import Stack

DAG_ID = "event_delivery"

_ABOUT = f"pipeline {DAG_ID}"

Document = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What there was when no event was pending any more.

    Args:
        events: as the API shows them, by id.
        arrivals: what reached the receivers, in its order.
        letters: messages of the delivery's dead-letter queue.
        sns: alerts of the delivery.
        slack: the same, as Slack's webhook received them.
        runs: of the delivery, as Airflow describes them.
    """

    events: Mapping[str, httpx.Response]
    arrivals: list[Document]
    letters: list[Document]
    sns: list[str]
    slack: list[str]
    runs: list[Document]

    def event(self, event_id: str) -> Document:
        """An event, empty if there is none."""
        return json_of(self.events[event_id])

    def at(self, receiver: str) -> list[Document]:
        """What reached one receiver."""
        return [arrival for arrival in self.arrivals if arrival["receiver"] == receiver]

    def ends(self, event_ids: list[str]) -> list[tuple[str, int]]:
        """Status of each event, and how often it was posted."""
        events = [self.event(event_id) for event_id in event_ids]
        return [(str(event.get("status")), int(event.get("delivery_attempts", 0))) for event in events]


def find(stack: Stack, airflow: AirflowApi, partners: httpx.Client, events: Mapping[str, httpx.Response]) -> Found:
    """All that there is in the end; takes the alerts off their queue.

    Args:
        stack: where to look.
        airflow: its Airflow.
        partners: its stubs.
        events: what the API says of them, by id.
    """
    return Found(
        events=events,
        arrivals=ask(partners, ARRIVALS_PATH)["arrivals"],
        letters=peek(stack, stack.event_dlq_url),
        sns=receive_alerts(stack, containing=_ABOUT, expected=1),
        slack=slack_messages(stack, containing=_ABOUT),
        runs=airflow.runs(DAG_ID),
    )
