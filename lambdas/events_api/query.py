"""The query of a listing: how many events, of which status, from where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lambdas.common.fields import MAX_FAULTS, shown
from lambdas.events_api.cursors import position_of
from lambdas.events_api.errors import Fault, InvalidRequestError
from lambdas.events_api.event import Status
from lambdas.events_api.store import INBOX, Listing

MAX_LIMIT = 100
DEFAULT_LIMIT = 50

_LIMIT = re.compile(r"[1-9][0-9]?|100", re.ASCII)
_EVENTS = Listing(status=None, newest_first=True)


@dataclass(frozen=True)
class Query:
    """What a caller wants to see.

    Args:
        after: position behind which the page begins; None = at the beginning.
        limit: at most so many events.
    """

    listing: Listing
    after: str | None
    limit: int


def read_events_query(parameters: Mapping[str, str], owner: str) -> Query:
    """The query of `GET /events`.

    Raises:
        InvalidRequestError: a parameter cannot be used, or there is no such parameter.
    """
    listing, faults = _EVENTS, []
    if "status" in parameters:
        try:
            listing = replace(_EVENTS, status=Status(parameters["status"]))
        except ValueError:
            faults.append(Fault("status", f"must be one of {', '.join(Status)}"))
    return _read(parameters, owner, listing, ("status", "limit", "cursor"), faults)


def read_inbox_query(parameters: Mapping[str, str], owner: str) -> Query:
    """The query of `GET /inbox`.

    Raises:
        InvalidRequestError: a parameter cannot be used, or there is no such parameter.
    """
    return _read(parameters, owner, INBOX, ("limit", "cursor"), [])


def _read(
    parameters: Mapping[str, str], owner: str, listing: Listing, names: tuple[str, ...], faults: list[Fault]
) -> Query:
    limit = parameters.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit):
        faults.append(Fault("limit", f"must be a whole number from 1 to {MAX_LIMIT}"))
    unknown = [name for name in parameters if name not in names]
    faults += [Fault(shown(name), f"is not a parameter: there are {', '.join(names)}") for name in unknown[:MAX_FAULTS]]
    after = None
    # A cursor is bound to a listing: while that is in doubt, so is the cursor.
    if "cursor" in parameters and not faults:
        after = position_of(parameters["cursor"], owner, listing)
    if faults:
        raise InvalidRequestError(*faults[:MAX_FAULTS], total=len(faults) + len(unknown[MAX_FAULTS:]))
    return Query(listing, after, int(limit))
