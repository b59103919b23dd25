import json
import math
from dataclasses import replace

import pytest

from include.clients.http import Failure
from include.clients.webhooks import WebhookResponse
from include.delivery.models import SKEW_SECONDS, Event, claim, delivered, failed, release, retry, seconds_of, timestamp
from tests.worlds.dynamodb import event_item
from tests.worlds.events import START, refused, tried


def event(**changes: str | int) -> Event:
    return Event.of(event_item(1, created=START, **changes))


def claimed(**changes: str | int) -> Event:
    return claim(event(**changes), "me", int(START) + 60)[1]


def test_times_as_texts_sort_as_times_do() -> None:
    times = [START, START + 0.001, START + 0.01, START + 1, START + 3600]
    assert [timestamp(each) for each in times] == sorted(timestamp(each) for each in times)
    assert timestamp(START + 0.25) == "2026-01-01T00:00:00.250Z"
    assert seconds_of("2026-01-01T00:00:00.250Z") == START + 0.25


def test_a_claim_holds_the_very_version_that_was_seen() -> None:
    change, held = claim(event(version=7), "me", 1234)
    assert (change.seen, held.version) == (7, 8)
    assert change.written == {"lease_owner": "me", "lease_until": 1234, "version": 8}
    assert (held.lease_owner, held.lease_until) == ("me", 1234.0)


def test_an_event_is_free_when_it_is_due_and_no_lease_holds_by_anybody_s_clock() -> None:
    assert event().free_at() == START
    assert event(next_attempt_at=timestamp(START + 9)).free_at() == START + 9
    assert claimed().free_at() == START + 60 + SKEW_SECONDS


def test_only_what_an_event_has_is_removed_from_it() -> None:
    assert set(release(claimed()).removes) == {"lease_owner", "lease_until"}
    assert set(delivered(event(), tried(WebhookResponse(200), START)).removes) == {"next_attempt_at"}
    assert retry(event(), tried(refused(), START))[0].removes == ()


def test_an_accepted_event_leaves_nothing_that_is_for_pending_ones() -> None:
    tried_before = claimed(delivery_attempts=2, last_error="503", last_status=503)
    change = delivered(tried_before, tried(WebhookResponse(204), START + 3))
    assert change.written == {
        "status": "delivered",
        "owner_status": "acme#delivered",
        "delivery_attempts": 3,
        "last_status": 204,
        "delivered_at": "2026-01-01T00:00:03.000Z",
        "attempts": '[{"time":"2026-01-01T00:00:02.750Z","status":204,"milliseconds":250,"cause":null}]',
        "version": 3,
    }
    assert set(change.removes) == {"lease_owner", "lease_until", "next_attempt_at", "last_error"}
    first_time = delivered(claimed(), tried(WebhookResponse(204), START))
    assert "last_error" not in first_time.removes, "only what is there can be removed"


def test_an_event_that_failed_tells_why_and_since_when() -> None:
    change = failed(claimed(delivery_attempts=10, first_failed_at="earlier"), tried(refused(500), START + 3))
    assert change.written == {
        "status": "failed",
        "owner_status": "acme#failed",
        "delivery_attempts": 11,
        "last_status": 500,
        "last_error": "500 refused",
        "first_failed_at": "earlier",
        "failed_at": "2026-01-01T00:00:03.000Z",
        "attempts": '[{"time":"2026-01-01T00:00:02.750Z","status":500,"milliseconds":250,"cause":"500 refused"}]',
        "version": 3,
    }
    assert set(change.removes) == {"lease_owner", "lease_until", "next_attempt_at"}


def test_a_refused_event_stays_pending_and_in_its_place() -> None:
    change, at = retry(claimed(), tried(refused(None), START))
    assert change.sets["next_attempt_at"] == timestamp(at)
    assert change.sets["last_status"] == "no answer"
    assert change.sets["first_failed_at"] == timestamp(START)
    assert change.sets["delivery_attempts"] == 1
    assert set(change.removes) == {"lease_owner", "lease_until"}
    assert not {"status", "owner_status", "position"} & change.sets.keys()


@pytest.mark.parametrize(
    ("attempts", "least", "most"), [(0, 1, 1.5), (1, 2, 3), (4, 16, 24), (9, 512, 768), (50, 3600, 5400)]
)
def test_pauses_double_up_to_an_hour(attempts: int, least: float, most: float) -> None:
    for _ in range(50):
        _, at = retry(claimed(delivery_attempts=attempts), tried(refused(), START))
        assert least <= at - START <= most


@pytest.mark.parametrize(("asked", "pause"), [(100.0, 100.0), (7200.0, 7200.0), (1e9, 86_400.0), (math.inf, 86_400.0)])
def test_a_receiver_is_not_asked_again_before_it_wants_to_be_within_a_day(asked: float, pause: float) -> None:
    _, at = retry(claimed(), tried(refused(429, retry_after=asked), START))
    assert at - START == pause


def test_a_long_error_is_shortened() -> None:
    change, _ = retry(claimed(), tried(WebhookResponse(None, Failure(None, "x" * 5000, retryable=True)), START))
    assert len(str(change.sets["last_error"])) <= 1024


def test_an_event_keeps_its_last_ten_attempts_with_time_status_milliseconds_and_cause() -> None:
    tried_often = event()
    for number in range(12):
        attempt = tried(refused(None if number % 2 else 500 + number), START + number, seconds=0.001 * number)
        change, _ = retry(tried_often, attempt)
        tried_often = replace(tried_often, attempt_log=str(change.sets["attempts"]))
    attempts = json.loads(tried_often.attempt_log or "")
    assert [each["milliseconds"] for each in attempts] == list(range(2, 12)), "the oldest are dropped"
    assert attempts[-2:] == [
        {"time": "2026-01-01T00:00:09.990Z", "status": 510, "milliseconds": 10, "cause": "510 refused"},
        {"time": "2026-01-01T00:00:10.989Z", "status": None, "milliseconds": 11, "cause": "None refused"},
    ]


def test_the_cause_of_an_attempt_is_short() -> None:
    change, _ = retry(event(), tried(WebhookResponse(None, Failure(None, "ż" * 5000, retryable=True)), START))
    (attempt,) = json.loads(str(change.sets["attempts"]))
    assert len(attempt["cause"]) <= 200
