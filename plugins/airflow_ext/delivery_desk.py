"""What the tasks of ``event_delivery`` work with, made from the settings when a task asks for it."""

from __future__ import annotations

import time

from airflow_ext.hooks.aws import AwsSession, quick_client
from airflow_ext.settings import Settings, load_settings
from include.clients.public_address import PublicNetwork
from include.clients.webhooks import Receiver
from include.delivery.courier import Courier
from include.delivery.dead_letters import DeadLetters
from include.delivery.events import EventTable
from include.delivery.subscriptions import Subscriptions

_REQUIRED = ("events_table", "subscriptions_table", "event_queue_url", "event_dlq_url")

LOCAL = "local"
"""The environment whose webhooks lie on the same machine."""


class DeliveryDesk:
    """One task's clients.

    Raises:
        SettingsUnavailableError: there are no settings.
        SettingsError: one that is needed is missing; it is named.
    """

    def __init__(self) -> None:
        self.settings = delivery_settings()
        self._session = AwsSession()
        dynamodb = quick_client("dynamodb", session=self._session)
        self.events = EventTable(dynamodb, self.settings.events_table)
        self.subscriptions = Subscriptions(dynamodb, self.settings.subscriptions_table, sleep=time.sleep)

    def courier(self) -> Courier:
        """Who delivers: beyond this machine and private networks, unless the environment is the local one."""
        guarded = self.settings.environment != LOCAL
        network = PublicNetwork(public_only=guarded)
        return Courier(
            events=self.events,
            subscriptions=self.subscriptions,
            dead_letters=DeadLetters(quick_client("sqs", session=self._session), self.settings.event_dlq_url),
            open_receiver=lambda url: Receiver(url, network, https_only=guarded),
            concurrency=self.settings.delivery_concurrency,
            max_attempts=self.settings.max_delivery_attempts,
        )


def delivery_settings() -> Settings:
    """The settings, with all that the delivery needs.

    Raises:
        SettingsUnavailableError: there are none.
        SettingsError: they are malformed, or one that is needed is missing; it is named.
    """
    return load_settings(*_REQUIRED)
