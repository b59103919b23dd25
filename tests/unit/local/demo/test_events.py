"""The events API's part of the demo: it says so when something promised is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from local.demo.events import (
    DAG_ID,
    DIGITS,
    DOWN,
    FLAKY,
    MOST_ATTEMPTS,
    POSTS,
    READER,
    REFUSALS,
    STEADY,
    Found,
    Post,
    Said,
    id_of,
    report_on,
)
from local.demo.report import Report

CREATED_AT = "2026-11-21T08:00:00.000Z"
BEGAN = datetime.fromisoformat(CREATED_AT).timestamp()


@dataclass(frozen=True)
class World:
    """What the demo sees when all went well; tests take something away."""

    said: Said
    found: Found

    def report(self) -> Report:
        return report_on(self.said, self.found, url="http://api", table="events-test", seconds=20.0)


@pytest.fixture
def world() -> World:
    said = _said()
    (down,), (first, behind), (oldest, other) = (said.ids(owner) for owner in (DOWN, FLAKY, READER))
    ends = {
        **dict.fromkeys([*said.ids(STEADY), behind], ("delivered", 1)),
        first: ("delivered", MOST_ATTEMPTS),
        down: ("failed", MOST_ATTEMPTS),
        oldest: ("acknowledged", 0),
        other: ("pending", 0),
    }
    events = {
        id_of(answer): _event(id_of(answer), *ends[id_of(answer)], post)
        for post, answer in zip(POSTS, said.posts, strict=True)
    }
    arrivals = [
        *(_arrival(STEADY, id_, 0.1, accepted=True) for id_ in said.ids(STEADY)),
        *(_arrival(FLAKY, first, at, accepted=at == 7.3) for at in (0.2, 1.2, 3.25, 7.3)),
        _arrival(FLAKY, behind, 7.4, accepted=True),
        *(_arrival(DOWN, down, at, accepted=False) for at in (0.2, 1.5, 4.0, 9.0)),
    ]
    letter = {"event_id": down, "owner": DOWN, "attempts": MOST_ATTEMPTS, "last_status": 500, "error": "500"}
    alert = f"ERROR in pipeline {DAG_ID}: event {down} could not be delivered"
    run = {"dag_run_id": "asset_triggered__1", "state": "success", "run_type": "asset_triggered"}
    return World(said, Found(events, arrivals, [letter], [alert], [alert], [run]))


def _said() -> Said:
    posts = tuple(
        httpx.Response(201, json={"event_id": f"evt_{number:012}", "created_at": CREATED_AT})
        for number in range(len(POSTS))
    )
    refusals = {
        wrong: httpx.Response(status, json={"error": {"code": code, "details": [{"field": name} for name in fields]}})
        for wrong, (status, code, fields) in REFUSALS.items()
    }
    said = Said(posts, httpx.Response(200, content=posts[0].content), (_inbox(), _inbox()), _no_content(), refusals)
    oldest, other = said.ids(READER)
    return replace(said, inboxes=(_inbox(oldest, other), _inbox(other)))


def _inbox(*ids: str) -> httpx.Response:
    return httpx.Response(200, json={"events": [{"event_id": each} for each in ids], "next_cursor": None})


def _no_content() -> tuple[httpx.Response, httpx.Response]:
    return httpx.Response(204), httpx.Response(204)


def _event(event_id: str, status: str, attempts: int, post: Post) -> httpx.Response:
    head = json.dumps({"event_id": event_id, "status": status, "delivery_attempts": attempts})
    return httpx.Response(200, text=f'{head.removesuffix("}")}, "posted": {post.body}}}')


def _arrival(receiver: str, event_id: str, after: float, *, accepted: bool) -> dict[str, Any]:
    return {
        "receiver": receiver,
        "webhook_id": event_id,
        "at": BEGAN + after,
        "verified": True,
        "accepted": accepted,
    }


def test_when_all_went_well_it_passes(world: World) -> None:
    report = world.report()
    assert [check.claim for check in report.checks if not check.passed] == []
    assert "5 delivered, 1 failed, 1 acknowledged, 1 pending; the first post came 0.1 s" in report.result
    assert len(report.written) == len(POSTS)
    shown = {exhibit.title: exhibit.text for exhibit in report.exhibits}
    assert len(shown["what reached the receivers"].splitlines()) == len(world.found.arrivals)
    assert json.loads(shown["the dead letter's message in the queue"]) == world.found.letters[0]


Change = Callable[[World], World]


def _said_is(**parts: Any) -> Change:
    return lambda world: replace(world, said=replace(world.said, **parts))


def _found_is(**parts: Any) -> Change:
    return lambda world: replace(world, found=replace(world.found, **parts))


def _event_is(owner: str, old: str, new: str) -> Change:
    def change(world: World) -> World:
        event_id = world.said.ids(owner)[0]
        text = world.found.events[event_id].text
        assert old in text
        changed = httpx.Response(200, text=text.replace(old, new))
        return _found_is(events={**world.found.events, event_id: changed})(world)

    return change


def _arrivals(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    return lambda world: _found_is(arrivals=edit(world.found.arrivals))(world)


def _arrival_is(index: int, **fields: Any) -> Change:
    return _arrivals(lambda found: [*found[:index], {**found[index], **fields}, *found[index + 1 :]])


def _refused(wrong: str, status: int, error: dict[str, Any]) -> Change:
    answer = httpx.Response(status, json={"error": error})
    return lambda world: _said_is(refusals={**world.said.refusals, wrong: answer})(world)


def _run_is(**fields: Any) -> Change:
    return lambda world: _found_is(runs=[{**world.found.runs[0], **fields}])(world)


def _inboxes(*wanted: slice) -> Change:
    return lambda world: _said_is(inboxes=tuple(_inbox(*world.said.ids(READER)[part]) for part in wanted))(world)


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (_said_is(again=httpx.Response(201, json={"event_id": "evt_000000000000"})), "posted twice"),
        (_said_is(again=httpx.Response(200, json={"event_id": "evt_other"})), "posted twice"),
        (_event_is(STEADY, DIGITS, "1.2345678901234567e19"), "every digit"),
        (_refused("no key", 403, {"code": "unauthorized"}), "no key: 401"),
        (_refused("a key that somebody made up", 200, {}), "made up: 403"),
        (_refused("an event type with capitals", 422, {"code": "invalid_request"}), "names event_type"),
        (_refused("the event of another owner", 404, {"code": "not_found"}), "another owner: 404"),
        (_arrival_is(0, verified=False), "signed"),
        (_arrival_is(0, verified=None), "signed"),
        (_arrivals(lambda found: [found[1], found[0], *found[2:]]), f"{STEADY} got"),
        (_arrivals(lambda found: [found[0], *found]), f"{STEADY} got"),
        (_event_is(STEADY, '"delivered"', '"pending"'), f"{STEADY} got"),
        (_event_is(FLAKY, '"delivery_attempts": 4', '"delivery_attempts": 5'), f"{FLAKY} got"),
        (_arrivals(lambda found: [*found[:7], *found[8:]]), f"{FLAKY} got"),
        (_arrival_is(4, at=BEGAN + 1.1), "the pauses"),
        (_arrival_is(2, at=BEGAN + 8.0), "nobody waited"),
        (_arrivals(lambda found: found[:-1]), f"{DOWN} got"),
        (_event_is(DOWN, '"failed"', '"pending"'), f"{DOWN} got"),
        (_found_is(letters=[]), "dead letters"),
        (lambda world: _found_is(letters=world.found.letters * 2)(world), "dead letters"),
        (lambda world: _found_is(sns=world.found.sns * 2)(world), "through SNS"),
        (_found_is(slack=["another event"]), "through Slack"),
        (_inboxes(slice(1, None), slice(1, None)), "the inbox"),
        (_arrivals(lambda found: [*found, {**found[0], "receiver": READER}]), "the inbox"),
        (_inboxes(slice(None), slice(None)), "acknowledging"),
        (_said_is(acknowledged=(httpx.Response(204), httpx.Response(404))), "acknowledging"),
        (_event_is(READER, '"acknowledged"', '"pending"'), "acknowledging"),
        (_run_is(state="running"), "every run"),
        (_run_is(run_type="scheduled"), "every run"),
    ],
)
def test_what_is_missing_is_told(world: World, change: Change, claim: str) -> None:
    failed = [check.claim for check in change(world).report().checks if not check.passed]
    assert len(failed) == 1
    assert claim in failed[0]


def test_an_api_that_takes_nothing_is_told_as_well() -> None:
    down = httpx.Response(503, text="unavailable")
    said = Said((down,) * len(POSTS), down, (down, down), (down, down), dict.fromkeys(REFUSALS, down))
    report = World(said, Found({"": down}, [], [], [], [], [])).report()
    assert [check.claim for check in report.checks if check.passed] == []
