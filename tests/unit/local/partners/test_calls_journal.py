"""The journal of the stubs: what it keeps, filters, counts and forgets."""

from typing import Any

from local.partners.calls import Entry, Journal


def record(journal: Journal, path: str = "/a", **fields: Any) -> None:
    call: dict[str, Any] = {
        "at": 1_741_500_000.5,
        "method": "GET",
        "path": path,
        "query": {},
        "status": 200,
        "end": "answered",
        "duration_ms": 1.23456,
        "authorized": True,
    }
    journal.record(Entry(**call | fields))


def numbers(shown: dict[str, Any]) -> list[int]:
    return [call["n"] for call in shown["calls"]]


def test_a_call_is_shown_with_what_is_known_about_it() -> None:
    journal = Journal()
    record(journal, query={"clientId": "7"}, client_id="7", rule=0)
    record(journal, status=None, end="cut before", authorized=False)
    assert journal.read()["calls"] == [
        {
            "n": 1,
            "at": "2025-03-09T06:00:00.500+00:00",
            "method": "GET",
            "path": "/a",
            "query": {"clientId": "7"},
            "status": 200,
            "end": "answered",
            "duration_ms": 1.235,
            "authorized": True,
            "rule": 0,
            "client_id": "7",
        },
        {
            "n": 2,
            "at": "2025-03-09T06:00:00.500+00:00",
            "method": "GET",
            "path": "/a",
            "query": {},
            "status": None,
            "end": "cut before",
            "duration_ms": 1.235,
            "authorized": False,
        },
    ]


def test_filters_show_the_newest_that_match() -> None:
    journal = Journal()
    for path in ("/a", "/a/b", "/ab", "/a", "/c"):
        record(journal, path)
    assert numbers(journal.read()) == [1, 2, 3, 4, 5]
    assert numbers(journal.read(path="/a")) == [1, 2, 4]
    assert numbers(journal.read(since=2)) == [3, 4, 5]
    limited = journal.read(path="/a", limit=2)
    assert numbers(limited) == [2, 4]
    assert (limited["matched"], limited["last"]) == (3, 5)
    assert numbers(journal.read(limit=0)) == []


def test_counters_are_by_path_and_by_status_or_how_it_ended() -> None:
    journal = Journal()
    record(journal)
    record(journal)
    record(journal, status=503)
    record(journal, end="cut mid")
    record(journal, "/b", status=None, end="client left")
    assert journal.read(path="/b")["counts"] == {"/a": {"200": 2, "503": 1, "cut mid": 1}, "/b": {"client left": 1}}


def test_the_oldest_calls_go_but_stay_counted() -> None:
    journal = Journal(capacity=3)
    for _ in range(5):
        record(journal)
    shown = journal.read()
    assert numbers(shown) == [3, 4, 5]
    assert shown["counts"] == {"/a": {"200": 5}}


def test_the_greatest_concurrency_is_kept_by_path() -> None:
    journal = Journal()
    for path in ("/a", "/a", "/b"):
        journal.enter(path)
    journal.leave("/a")
    journal.enter("/a")
    assert journal.read()["max_concurrent"] == {"/a": 2, "/b": 1}


def test_clear_forgets_but_numbers_on_and_knows_who_is_still_there() -> None:
    journal = Journal()
    journal.enter("/a")
    journal.enter("/b")
    journal.leave("/b")
    record(journal, "/b")
    journal.clear()
    assert journal.read() == {"calls": [], "matched": 0, "last": 1, "counts": {}, "max_concurrent": {"/a": 1}}
    journal.leave("/a")
    record(journal)
    assert numbers(journal.read(since=1)) == [2]
