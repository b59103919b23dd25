"""Where a page of a listing ends and the next begins, as a text that callers pass back and need not understand."""

from __future__ import annotations

import base64
import hashlib
import re

from lambdas.events_api.errors import Fault, InvalidRequestError
from lambdas.events_api.store import Listing

_DIGEST_BYTES = 13
"""With the position, a multiple of three: base64 needs no filling, which would have to be quoted in an address."""

_POSITION = re.compile(rb"[0-9TZ:.-]{24}#evt_[a-z0-9]{12}")


def cursor_after(position: str, owner: str, listing: Listing) -> str:
    """The cursor of the page that begins behind a position.

    It is bound to the owner and the listing, so that a mix-up is noticed. That is a check sum and no signature: who
    forges one gets to another place of the same listing of his own events, nowhere else.
    """
    data = position.encode()
    return base64.urlsafe_b64encode(_digest(data, owner, listing) + data).decode()


def position_of(cursor: str, owner: str, listing: Listing) -> str:
    """The position behind which a page begins. It still does when the event that was there is gone.

    Raises:
        InvalidRequestError: the cursor is not one of this owner and this listing.
    """
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    data = raw[_DIGEST_BYTES:]
    if not _POSITION.fullmatch(data) or cursor != cursor_after(data.decode(), owner, listing):
        raise InvalidRequestError(Fault("cursor", "is not a cursor that this listing gave: begin without one"))
    return data.decode()


def _digest(position: bytes, owner: str, listing: Listing) -> bytes:
    bound = "\n".join((owner, listing.status or "", str(listing.newest_first)))
    return hashlib.sha256(bound.encode() + b"\n" + position).digest()[:_DIGEST_BYTES]
