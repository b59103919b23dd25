"""What the API asks of whatever keeps the events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lambdas.events_api.event import Event, Status


@dataclass(frozen=True)
class Listing:
    """Which of an owner's events, in which order.

    Args:
        status: only those of this status; None = all.
        newest_first: else the oldest come first.
    """

    status: Status | None
    newest_first: bool


INBOX = Listing(Status.PENDING, newest_first=False)
"""What is still to be delivered, in the order in which it will be."""


@dataclass(frozen=True)
class Page:
    """A part of a listing.

    Args:
        events: at most as many as were asked for; fewer when they are large.
        more: others follow.
    """

    events: list[Event]
    more: bool


class EventStore(Protocol):
    """Keeps events. Every method raises StoreUnavailableError when it cannot do what it says."""

    def put(self, event: Event) -> Event | None:
        """Keep a new event, unless its id is taken.

        Returns:
            None when it is kept; else the event that has the id, which is left as it is.
        """

    def get(self, owner: str, event_id: str) -> Event:
        """The owner's event of this id, as it is now.

        Raises:
            NoSuchEventError: the owner has none.
        """

    def page(self, owner: str, listing: Listing, *, after: str | None, limit: int) -> Page:
        """Some of the owner's events. What was changed within the last second may be missing.

        Args:
            owner: whose.
            listing: which, and in which order.
            after: position behind which it begins, whether or not an event is there; None = at the beginning.
            limit: at most so many.
        """

    def acknowledge(self, owner: str, event_id: str, at: str) -> None:
        """Let the owner's event be acknowledged, and not delivered any more. It keeps the time of the first time.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """

    def replay(self, owner: str, event_id: str, at: str) -> Event:
        """Let the owner's event be pending again, as if it had never been tried, and return it as it is then.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """

    def delete(self, owner: str, event_id: str) -> None:
        """Forget the owner's event.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """
