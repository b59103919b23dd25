"""The events API's part of the demo: events are posted, and delivered to receivers of which not all are well.

Who takes part in the events API's part of the demo, and what they say to the API.

What the events API's part of the demo finds: read back from the API, the receivers, the queue, and Airflow.

What the events API's part of the demo shows, and what it holds API and delivery to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx

from local.clients.airflow import AirflowApi, active_runs
from local.clients.inbox import receive_alerts, slack_messages
from local.demo.report import Exhibit, Report, Tell, ask, json_of, peek, rules, run_tool, shown
from local.partners.app import ARRIVALS_PATH, SECRETS_PATH
from local.partners.receivers import PATH
from local.processes.supervisor import StackError
from local.stack.description import Stack

STEADY, FLAKY, DOWN, READER = "demo-steady", "demo-flaky", "demo-down", "demo-reader"
"""Owners of events. Three have a webhook of the same name; the last fetches its events from the inbox."""

FAILURES = 3
MOST_ATTEMPTS = FAILURES + 1
"""How often an event is posted here. By default it is eleven times, which takes some twenty minutes."""

RULES: tuple[dict[str, Any], ...] = (
    {"path": f"{PATH}/{FLAKY}", "count": FAILURES, "status": httpx.codes.SERVICE_UNAVAILABLE},
    {"path": f"{PATH}/{DOWN}", "status": httpx.codes.INTERNAL_SERVER_ERROR},
)

DIGITS = "12345678901234567890.0000000001"
"""A number that no float holds."""


@dataclass(frozen=True)
class Post:
    """An event to be posted.

    Args:
        body: JSON text.
    """

    owner: str
    body: str


POSTS = (
    Post(
        STEADY,
        f'{{"event_type": "order.created", "payload": {{"order": "D-1", "amount": {DIGITS}, "note": "żółw <&>"}}, '
        '"metadata": {"source": "demo"}, "idempotency_key": "demo-order-1"}',
    ),
    Post(FLAKY, '{"event_type": "invoice.sent", "payload": {"invoice": 1}}'),
    Post(FLAKY, '{"event_type": "invoice.paid", "payload": {"invoice": 1}}'),
    Post(DOWN, '{"event_type": "meter.read", "payload": {"meter": "M-7", "kwh": 1204.50}}'),
    Post(STEADY, '{"event_type": "order.paid", "payload": {"order": "D-1"}}'),
    Post(STEADY, '{"event_type": "order.shipped", "payload": {"order": "D-1"}}'),
    Post(READER, '{"event_type": "report.ready", "payload": {"report": 1}}'),
    Post(READER, '{"event_type": "report.ready", "payload": {"report": 2}}'),
)
REPEATED = POSTS[0]
"""Posted twice: it has an idempotency key."""

BROKEN = '{"event_type": "Order Created", "payload": {"order": "D-1"}}'
MADE_UP_KEY = f"sk_{'0' * 32}"


@dataclass(frozen=True)
class Said:
    """What the API answered.

    Args:
        posts: to each of :data:`POSTS`.
        again: to :data:`REPEATED`, the second time.
        inboxes: the reader's inbox before and after it acknowledged the oldest event.
        acknowledged: to that, and to the same once more.
        refusals: to requests that are in vain, by what is wrong with them.
    """

    posts: tuple[httpx.Response, ...]
    again: httpx.Response
    inboxes: tuple[httpx.Response, httpx.Response]
    acknowledged: tuple[httpx.Response, httpx.Response]
    refusals: Mapping[str, httpx.Response]

    def ids(self, owner: str) -> list[str]:
        """The ids of an owner's events, in the order in which they were posted."""
        return [id_of(answer) for post, answer in zip(POSTS, self.posts, strict=True) if post.owner == owner]


class Callers:
    """The owners, each with its key.

    Args:
        api: a client of the events API.
        keys: by owner.
    """

    def __init__(self, api: httpx.Client, keys: Mapping[str, str]) -> None:
        self._api = api
        self._keys = keys

    def ask(self, owner: str, method: str, path: str, body: str | None = None) -> httpx.Response:
        """One request with the owner's key."""
        return self._send(self._keys[owner], method, path, body)

    def say_all(self) -> Said:
        """Post all events, read and acknowledge those of the reader, and try what nobody may."""
        posts = tuple(self.ask(post.owner, "POST", "/events", post.body) for post in POSTS)
        again = self.ask(REPEATED.owner, "POST", "/events", REPEATED.body)
        before = self.ask(READER, "GET", "/inbox")
        oldest = id_of(posts[[post.owner for post in POSTS].index(READER)])
        first, second = (self.ask(READER, "POST", f"/events/{oldest}/acknowledge") for _ in range(2))
        refusals = {
            "no key": self._send(None, "POST", "/events", REPEATED.body),
            "a key that somebody made up": self._send(MADE_UP_KEY, "POST", "/events", REPEATED.body),
            "an event type with capitals": self.ask(STEADY, "POST", "/events", BROKEN),
            "the event of another owner": self.ask(READER, "GET", f"/events/{id_of(posts[0])}"),
        }
        return Said(posts, again, (before, self.ask(READER, "GET", "/inbox")), (first, second), refusals)

    def _send(self, key: str | None, method: str, path: str, body: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self._api.request(method, path, content=body, headers=headers)


def make_key(stack: Stack, owner: str) -> str:
    """A key as a person makes it.

    Raises:
        StackError: the tool failed.
    """
    return run_tool(stack, "api_keys", "create", "--owner", owner, "--environment", stack.environment)


def subscribe(stack: Stack, owner: str) -> str:
    """Have an owner's events delivered to the receiver of its name, as a person does; returns the secret.

    Raises:
        StackError: the tool failed.
    """
    url = f"{stack.partners_url}{PATH}/{owner}"
    arguments = ("--owner", owner, "--url", url, "--allow-http", "--environment", stack.environment)
    return run_tool(stack, "subscriptions", "put", *arguments)


def id_of(answer: httpx.Response) -> str:
    """The id of the event that was posted, empty if none was: the checks then say so."""
    return str(json_of(answer).get("event_id", ""))


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


_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.5


def run_events(stack: Stack, tell: Tell) -> Report:
    """Make keys and subscriptions, post events, and see them delivered, repeated, given up, or fetched."""
    started = time.monotonic()
    with (
        AirflowApi(stack) as airflow,
        httpx.Client(base_url=stack.partners_url, timeout=30) as partners,
        httpx.Client(base_url=stack.events_api_url, timeout=30) as api,
        _settings(stack, max_delivery_attempts=MOST_ATTEMPTS),
        rules(partners, *RULES),
    ):
        # The queue is listened to some seconds after this: the keys are made meanwhile.
        airflow.unpause(DAG_ID)
        airflow.parse(DAG_ID)
        callers = Callers(api, {owner: make_key(stack, owner) for owner in (STEADY, FLAKY, DOWN, READER)})
        secrets = {owner: subscribe(stack, owner) for owner in (STEADY, FLAKY, DOWN)}
        partners.put(SECRETS_PATH, json=secrets).raise_for_status()
        said = callers.say_all()
        posted = [(post.owner, id_of(answer)) for post, answer in zip(POSTS, said.posts, strict=True)]

        def read() -> list[Document]:
            found = [json_of(callers.ask(owner, "GET", f"/events/{id_}")) for owner, id_ in posted if owner != READER]
            tell(sum(event.get("status") != "pending" for event in found), len(found))
            return found

        wait_until_settled(airflow, read)
        pause_when_idle(airflow)
        events = {id_: callers.ask(owner, "GET", f"/events/{id_}") for owner, id_ in posted}
        found = find(stack, airflow, partners, events)
        seconds = time.monotonic() - started
    return report_on(said, found, url=stack.events_api_url, table=stack.events_table, seconds=seconds)


def wait_until_settled(airflow: AirflowApi, read: Callable[[], list[Document]], *, poll: float = _POLL_SECONDS) -> None:
    """Wait until no event is pending any more, and the queue has started a run.

    A repetition that is due while no run is active would wait for the next minute's; a run is then started by hand.

    Args:
        airflow: with the delivery switched on.
        read: the events as they are.
        poll: seconds between two looks.

    Raises:
        StackError: it takes longer than five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        pending = [event for event in read() if event.get("status") == "pending"]
        woken = any(run["run_type"] == "asset_triggered" for run in airflow.runs(DAG_ID))
        if woken and not pending:
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"after {_TIMEOUT_SECONDS:.0f} s, {len(pending)} events were pending, "
                f"and the queue had started {'a' if woken else 'no'} run"
            )
        if any(map(_is_due_again, pending)) and not active_runs(airflow, DAG_ID):
            airflow.trigger(DAG_ID)
        time.sleep(poll)


def pause_when_idle(airflow: AirflowApi, *, poll: float = _POLL_SECONDS) -> None:
    """Pause the delivery at a moment at which it has no run: a paused DAG's run would never end.

    Raises:
        StackError: there was no such moment within five minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        if not active_runs(airflow, DAG_ID):
            airflow.unpause(DAG_ID, paused=True)
            if not active_runs(airflow, DAG_ID):
                return
            # One has begun in between.
            airflow.unpause(DAG_ID)
        if time.monotonic() > deadline:
            raise StackError(f"{DAG_ID} was never without a run for {_TIMEOUT_SECONDS:.0f} s")
        time.sleep(poll)


def _is_due_again(event: Document) -> bool:
    """Whether a pending event was posted in vain, and may be posted again."""
    return event["delivery_attempts"] > 0 and datetime.fromisoformat(event["next_attempt_at"]) <= datetime.now(UTC)


@contextmanager
def _settings(stack: Stack, **changes: Any) -> Iterator[None]:
    """Change settings, as an operator does, until the block ends."""
    secrets = stack.aws("secretsmanager")
    before = secrets.get_secret_value(SecretId=stack.settings_variable)["SecretString"]
    changed = json.dumps({**json.loads(before), **changes})
    secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=changed)
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=before)
