"""What the events API's part of the demo shows, and what it holds API and delivery to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise

import httpx

from local.demo_events_found import Found
from local.demo_events_posts import DIGITS, DOWN, FAILURES, FLAKY, MOST_ATTEMPTS, READER, STEADY, Said, id_of
from local.demo_kit import json_of, shown
from local.demo_report import Exhibit, Report

REFUSALS: Mapping[str, tuple[int, str, list[str]]] = {
    "no key": (httpx.codes.UNAUTHORIZED, "unauthorized", []),
    "a key that somebody made up": (httpx.codes.FORBIDDEN, "forbidden", []),
    "an event type with capitals": (httpx.codes.UNPROCESSABLE_ENTITY, "invalid_request", ["event_type"]),
    "the event of another owner": (httpx.codes.NOT_FOUND, "no_such_event", []),
}
"""Status, code and named fields of the answers to what is refused."""

_ENDS = ("delivered", "failed", "acknowledged", "pending")

_PAUSES = tuple(2.0**number for number in range(FAILURES))
"""Seconds between two posts of the same event, at the least."""

_MILLISECOND = 0.001
"""Times in the table are as exact as that."""


def report_on(said: Said, found: Found, *, url: str, table: str, seconds: float) -> Report:
    """The part's report, checks included.

    Args:
        said: what the API answered.
        found: in the end.
        url: of the API.
        table: of the events.
        seconds: that all of it took.
    """
    ends = [found.event(event_id).get("status") for event_id in found.events]
    counts = ", ".join(
        f"{ends.count(status)} {status}" for status in ("delivered", "failed", "acknowledged", "pending")
    )
    report = Report(
        "events API",
        ", ".join([f"POST {url}/events", *(str(run["dag_run_id"]) for run in found.runs)]),
        ", ".join(sorted({str(run["state"]) for run in found.runs})),
        seconds,
        f"{len(said.posts)} events: {counts}; the first post came {_first_post(said, found):.1f} s after its 201",
        [f"dynamodb:{table}/{event_id}" for event_id in found.events],
        list(_exhibits(said, found)),
        "An event is stored before it is answered; the queue wakes the delivery, which posts each owner's events in "
        f"their order, signed with the owner's secret. {FLAKY} fails {FAILURES} times on purpose, and its next event "
        f"waits for that; {DOWN} never accepts, so its event ends in the dead letters with one alert, after "
        f"{MOST_ATTEMPTS} attempts instead of the usual 11; {READER} has no webhook and fetches its events itself.",
    )
    _check_answers(report, said, found)
    _check_deliveries(report, said, found)
    _check_failure(report, said, found)
    _check_inbox(report, said, found)
    report.check(
        "every run succeeded, the queue started one of them, and none is left waiting now that the DAG is paused again",
        all(run["state"] == "success" for run in found.runs)
        and any(run["run_type"] == "asset_triggered" for run in found.runs),
    )
    return report


def _check_answers(report: Report, said: Said, found: Found) -> None:
    report.check(
        f"each of the {len(said.posts)} events was taken with a 201 and an id of its own",
        [answer.status_code for answer in said.posts] == [httpx.codes.CREATED] * len(said.posts)
        and len(found.events) == len(said.posts),
    )
    report.check(
        "the one that was posted twice under its idempotency key was answered 200 the second time, with the same id",
        said.again.status_code == httpx.codes.OK and id_of(said.again) == id_of(said.posts[0]),
    )
    report.check("read back, its number has every digit", DIGITS in found.events[id_of(said.posts[0])].text)
    for wrong, answer in said.refusals.items():
        status, code, fields = REFUSALS[wrong]
        error = json_of(answer).get("error") or {}
        report.check(
            f"{wrong}: {status} {code}" + (f" that names {', '.join(fields)}" if fields else ""),
            (answer.status_code, error.get("code")) == (status, code)
            and [fault["field"] for fault in error.get("details") or []] == fields,
        )


def _check_deliveries(report: Report, said: Said, found: Found) -> None:
    steady, flaky = found.at(STEADY), found.at(FLAKY)
    first, *behind = said.ids(FLAKY)
    report.check(
        "every post was signed with the secret of its subscription, as Standard Webhooks has it",
        bool(found.arrivals) and all(arrival["verified"] is True for arrival in found.arrivals),
    )
    report.check(
        f"{STEADY} got its events once each, in the order in which they were posted, and they are delivered",
        [arrival["webhook_id"] for arrival in steady] == said.ids(STEADY)
        and found.ends(said.ids(STEADY)) == [("delivered", 1)] * len(steady),
    )
    report.check(
        f"{FLAKY} got its first event {MOST_ATTEMPTS} times under one id, accepted the last, then got the next",
        [(arrival["webhook_id"], arrival["accepted"]) for arrival in flaky]
        == [(first, False)] * FAILURES + [(event_id, True) for event_id in (first, *behind)]
        and found.ends(said.ids(FLAKY)) == [("delivered", MOST_ATTEMPTS), ("delivered", 1)],
    )
    pauses = [after["at"] - before["at"] for before, after in pairwise(flaky[:MOST_ATTEMPTS])]
    report.check(
        "the pauses between these were at least a second, then two, then four",
        len(pauses) == FAILURES
        and all(pause > wanted - _MILLISECOND for pause, wanted in zip(pauses, _PAUSES, strict=True)),
    )
    accepted = [arrival["at"] for arrival in flaky if arrival["accepted"]]
    report.check(
        f"nobody waited for it: {STEADY} had all of its events by then",
        bool(steady and accepted) and steady[-1]["at"] < accepted[0],
    )


def _check_failure(report: Report, said: Said, found: Found) -> None:
    (event_id,) = said.ids(DOWN)
    report.check(
        f"{DOWN} got its event {MOST_ATTEMPTS} times and accepted none; the event is failed",
        [(arrival["webhook_id"], arrival["accepted"]) for arrival in found.at(DOWN)]
        == [(event_id, False)] * MOST_ATTEMPTS
        and found.ends([event_id]) == [("failed", MOST_ATTEMPTS)],
    )
    report.check(
        "the dead letters hold one message, which tells event, owner, attempts and the last status",
        [(letter["event_id"], letter["owner"], letter["attempts"], letter["last_status"]) for letter in found.letters]
        == [(event_id, DOWN, MOST_ATTEMPTS, httpx.codes.INTERNAL_SERVER_ERROR)],
    )
    for channel, messages in (("SNS", found.sns), ("Slack", found.slack)):
        report.check(
            f"exactly one alert came through {channel}, and it names the event",
            len(messages) == 1 and event_id in messages[0],
        )


def _check_inbox(report: Report, said: Said, found: Found) -> None:
    oldest, other = said.ids(READER)
    before, after = (_ids_in(inbox) for inbox in said.inboxes)
    report.check(
        f"the inbox of {READER} had both of its events, the oldest first; none was posted anywhere",
        before == [oldest, other] and not found.at(READER),
    )
    report.check(
        "acknowledging that one was answered 204, twice; it left the inbox, and the other is pending as it was",
        [answer.status_code for answer in said.acknowledged] == [httpx.codes.NO_CONTENT] * 2
        and after == [other]
        and found.ends([oldest, other]) == [("acknowledged", 0), ("pending", 0)],
    )


def _first_post(said: Said, found: Found) -> float:
    """Seconds from the first event's 201 to the first post of an event; 0 if there was none."""
    created_at = json_of(said.posts[0]).get("created_at")
    if not created_at or not found.arrivals:
        return 0.0
    return float(found.arrivals[0]["at"]) - datetime.fromisoformat(created_at).timestamp()


def _exhibits(said: Said, found: Found) -> Iterator[Exhibit]:
    yield Exhibit("the answer to a new event", shown(said.posts[0]))
    yield Exhibit("what reached the receivers", "\n".join(_lines(found)))
    for letter in found.letters:
        yield Exhibit("the dead letter's message in the queue", json.dumps(letter, indent=2))
    yield from (Exhibit("the alert, as SNS delivered it", text) for text in found.sns)
    yield Exhibit(f"the inbox of {READER}, before and after it acknowledged the oldest event", _inboxes(said))
    refused = (f"{wrong}:\n  {' '.join(shown(answer).split())}" for wrong, answer in said.refusals.items())
    yield Exhibit("what the API refuses", "\n".join(refused))


def _lines(found: Found) -> Iterator[str]:
    for arrival in found.arrivals:
        after = arrival["at"] - found.arrivals[0]["at"]
        verified = "signature verified" if arrival["verified"] else "NOT VERIFIED"
        taken = "accepted" if arrival["accepted"] else "refused"
        yield f"+{after:6.2f} s  {arrival['receiver']:<12}  {arrival['webhook_id']}  {verified}, {taken}"


def _inboxes(said: Said) -> str:
    return "\n".join(f"{inbox.status_code}  {', '.join(_ids_in(inbox)) or 'empty'}" for inbox in said.inboxes)


def _ids_in(inbox: httpx.Response) -> list[str]:
    return [event["event_id"] for event in json_of(inbox).get("events", ())]
