import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.events_api.errors import InvalidRequestError
from lambdas.events_api.models import Status
from lambdas.events_api.requests import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    cursor_after,
    position_of,
    read_events_query,
    read_inbox_query,
)
from lambdas.events_api.store import INBOX, Listing, Query

OWNER = "owner-1"
POSITION = "2026-03-02T09:30:00.000Z#evt_0123456789ab"
ALL = Listing(None, newest_first=True)
LISTINGS = [
    *(ALL, INBOX, *(Listing(status, newest_first=True) for status in Status)),
    *(replace(ALL, **{name: "x"}) for name in ("event_type", "since", "until")),
]
CURSOR = cursor_after(POSITION, OWNER, ALL)


def fields_of(parameters: dict[str, str], *, read: Any = read_events_query) -> list[str | None]:
    with pytest.raises(InvalidRequestError) as caught:
        read(parameters, OWNER)
    return [fault.field for fault in caught.value.faults]


def test_query_without_parameters_has_the_defaults() -> None:
    assert read_events_query({}, OWNER) == Query(ALL, None, DEFAULT_LIMIT)
    assert read_inbox_query({}, OWNER) == Query(INBOX, None, DEFAULT_LIMIT)
    assert DEFAULT_LIMIT == 50


@pytest.mark.parametrize("status", list(Status))
def test_status_chooses_its_events(status: Status) -> None:
    assert read_events_query({"status": str(status)}, OWNER).listing == Listing(status, newest_first=True)


@pytest.mark.parametrize("status", ["", "PENDING", "pending,failed", "queued", " pending", "pending "])
def test_status_that_is_none_is_refused(status: str) -> None:
    assert fields_of({"status": status}) == ["status"]


def test_event_type_chooses_its_events_and_one_that_is_none_is_refused() -> None:
    assert read_events_query({"event_type": "a.b_1"}, OWNER).listing == replace(ALL, event_type="a.b_1")
    for wrong in ("", "A", "a b", "a" * 101, "a\n"):
        assert fields_of({"event_type": wrong}) == ["event_type"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-02T09:30:00Z", "2026-03-02T09:30:00.000Z"),
        ("2026-03-02T09:30:00.5Z", "2026-03-02T09:30:00.500Z"),
        ("2026-03-02T09:30:00.001000Z", "2026-03-02T09:30:00.001Z"),
        ("2026-03-02T09:30:00.000001Z", "2026-03-02T09:30:00.001Z"),
        ("2026-03-02T23:59:59.9999999Z", "2026-03-03T00:00:00.000Z"),
        ("2026-03-02T09:30:00+01:00", "2026-03-02T08:30:00.000Z"),
        ("2026-03-02T09:30:00 01:00", "2026-03-02T08:30:00.000Z"),
        ("2026-03-02T22:30:00-05:00", "2026-03-03T03:30:00.000Z"),
    ],
)
def test_time_is_that_moment_in_utc_up_to_the_next_millisecond(text: str, moment: str) -> None:
    assert read_events_query({"since": text}, OWNER).listing == replace(ALL, since=moment)
    assert read_events_query({"until": text}, OWNER).listing == replace(ALL, until=moment)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-03-02", "2026-03-02T09:30", "2026-03-02T09:30:00", "20260302T093000Z", "1772443800"),
        *("2026-02-30T09:30:00Z", "2026-03-02T24:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.9999Z"),
        *("0001-01-01T00:00:00+01:00", "٢٠٢٦-03-02T09:30:00Z", "2026-03-02T09:30:00Z\n", "2026-03-02t09:30:00z"),
    ],
)
def test_time_that_is_none_is_refused(text: str) -> None:
    assert fields_of({"since": text}) == ["since"]
    assert fields_of({"until": text}) == ["until"]


def test_time_to_end_at_is_later_than_the_one_to_begin_at() -> None:
    for until in ("2026-03-02T09:30:00Z", "2026-03-02T09:29:59Z"):
        assert fields_of({"since": "2026-03-02T09:30:00Z", "until": until}) == ["until"]


@pytest.mark.parametrize("limit", range(1, MAX_LIMIT + 1))
def test_limit_up_to_the_largest_page_is_accepted(limit: int) -> None:
    assert read_events_query({"limit": str(limit)}, OWNER).limit == limit


@pytest.mark.parametrize(
    "limit", ["", "0", "101", "-1", "1.0", "1e1", "01", " 1", "1\n", "1,2", "١", "１", "NaN", "9" * 5000]
)
def test_limit_that_is_none_is_refused(limit: str) -> None:
    assert fields_of({"limit": limit}) == ["limit"]
    assert fields_of({"limit": limit}, read=read_inbox_query) == ["limit"]


def test_unknown_parameters_are_refused() -> None:
    """A filter that is misspelt would show other events than were asked for."""
    assert fields_of({"stauts": "failed", "page": "2"}) == ["stauts", "page"]
    assert fields_of({"status": "pending"}, read=read_inbox_query) == ["status"]
    assert fields_of({"x" * 1_000: ""}) == ["x" * 64 + "…"]


def test_every_fault_is_named() -> None:
    assert fields_of({"status": "x", "limit": "x", "cursor": "x", "y": ""}) == ["status", "limit", "y"]


@pytest.mark.parametrize("listing", LISTINGS, ids=str)
def test_cursor_is_read_as_the_position_that_it_was_made_of(listing: Listing) -> None:
    cursor = cursor_after(POSITION, OWNER, listing)
    assert position_of(cursor, OWNER, listing) == POSITION
    # As it stands in an address, without quoting.
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_query_begins_after_its_cursor() -> None:
    assert read_events_query({"cursor": CURSOR, "limit": "7"}, OWNER) == Query(ALL, POSITION, 7)


def test_cursor_given_before_there_were_filters_is_still_good() -> None:
    given = "tU-VNpmG7Ur1AXNcgzIwMjYtMDMtMDJUMDk6MzA6MDAuMDAwWiNldnRfMDEyMzQ1Njc4OWFi"
    assert position_of(given, OWNER, ALL) == POSITION


@pytest.mark.parametrize("other", [listing for listing in LISTINGS if listing != ALL], ids=str)
def test_cursor_of_another_listing_is_refused(other: Listing) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        position_of(CURSOR, OWNER, other)
    assert caught.value.faults[0].field == "cursor"


@pytest.mark.parametrize("owner", ["owner-2", "owner-1\n", "OWNER-1", "", "owner-1\npending"])
def test_cursor_of_another_owner_is_refused(owner: str) -> None:
    with pytest.raises(InvalidRequestError):
        position_of(CURSOR, owner, ALL)


@pytest.mark.parametrize(
    "cursor",
    [
        *("", " ", "x", "null", "0", "=" * 8, "🏭", "A" * 100_000),
        *(CURSOR[:-4], CURSOR + "AAAA", CURSOR + "=", CURSOR + " ", f"{CURSOR},{CURSOR}"),
        *(base64.urlsafe_b64encode(head + POSITION.encode()).decode() for head in (b"", b"x" * 13)),
    ],
    ids=lambda cursor: cursor[:20],
)
def test_cursor_that_is_none_is_refused(cursor: str) -> None:
    assert fields_of({"cursor": cursor}) == ["cursor"]
    assert fields_of({"cursor": cursor}, read=read_inbox_query) == ["cursor"]


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_text_is_refused_as_a_cursor(cursor: str) -> None:
    assert fields_of({"cursor": cursor}) == ["cursor"]


@given(st.integers(0, len(CURSOR) - 1), st.sampled_from("ABab01-_"))
def test_cursor_that_was_changed_anywhere_is_refused(place: int, character: str) -> None:
    changed = CURSOR[:place] + character + CURSOR[place + 1 :]
    if changed == CURSOR:
        return
    assert fields_of({"cursor": changed}) == ["cursor"]
