import json

import pytest

from include.alerts import RunRef, Severity
from include.delivery.due import Due
from include.delivery.models import timestamp
from include.delivery.report import (
    MAX_NAMED,
    MAX_SINGLE,
    DeadLetter,
    DeliveryCounts,
    failure_alerts,
    metrics,
    task_failures_alert,
    unreported,
)
from tests.worlds.events import START, DeliveryWorld, refused

DUE = Due((("acme",),), 1, 7, 12.5)


def log_url(task: str, map_index: int | None) -> str:
    return f"https://airflow.test/{task}/{map_index}"


RUN = RunRef("p", "r", log_url)


def letters(count: int) -> list[DeadLetter]:
    return [DeadLetter(f"evt_{n:012d}", "acme", 11, 503, "503 Service Unavailable", "earlier") for n in range(count)]


def test_what_tasks_did_adds_up_after_its_way_through_json() -> None:
    parts = [
        DeliveryCounts(attempts=5, delivered=3, postponed=1, failed=1, dead=letters(1)),
        DeliveryCounts(attempts=2, delivered=1, lost=1, unqueued=1),
    ]
    travelled = [DeliveryCounts.from_document(json.loads(json.dumps(counts.to_document()))) for counts in parts]
    assert travelled == parts
    total = DeliveryCounts.total(travelled)
    assert total == DeliveryCounts(7, delivered=4, postponed=1, failed=1, lost=1, unqueued=1, dead=letters(1))
    assert DeliveryCounts.total([]) == DeliveryCounts()


def test_a_task_names_no_more_than_travels_well() -> None:
    document = DeliveryCounts(failed=5000, dead=letters(5000)).to_document()
    assert len(document["dead"]) == MAX_NAMED
    assert len(json.dumps(document)) < 48_000


def test_metrics_tell_age_attempts_and_success() -> None:
    assert metrics(DUE, DeliveryCounts(attempts=8, delivered=6, failed=1)) == {
        "OldestPendingSeconds": 12.5,
        "DueEvents": 7.0,
        "DeliveryAttempts": 8.0,
        "DeliveredEvents": 6.0,
        "FailedEvents": 1.0,
        "DeliverySuccessRate": 0.75,
    }
    assert "DeliverySuccessRate" not in metrics(DUE, DeliveryCounts()), "nothing was posted, so there is no rate"


def test_every_failed_event_has_an_alert_of_its_own() -> None:
    alerts = failure_alerts([*[DeliveryCounts()] * 2, DeliveryCounts(failed=2, dead=letters(2))], RUN)
    assert list(alerts) == ["evt_000000000000", "evt_000000000001"]
    alert = alerts["evt_000000000001"]
    assert (alert.severity, alert.headline) == (Severity.ERROR, "event evt_000000000001 could not be delivered")
    assert "11 attempts since earlier, the last one: 503 Service Unavailable" in alert.text
    assert "of acme in deliver[2]" in alert.text
    assert "https://airflow.test/deliver/2" in alert.text


@pytest.mark.parametrize(("named", "failed"), [(MAX_SINGLE + 1, MAX_SINGLE + 1), (5, 5000)])
def test_many_failed_events_have_one_alert(named: int, failed: int) -> None:
    counts = DeliveryCounts(failed=failed, dead=letters(named))
    (alert,) = failure_alerts([counts], RUN).values()
    assert alert.headline == f"{failed:,} events could not be delivered"
    assert "evt_000000000000" in alert.text


@pytest.mark.parametrize("failed", [1, MAX_SINGLE + 1])
def test_what_the_dead_letter_queue_did_not_take_is_reported(failed: int) -> None:
    said = "the dead-letter queue did not take: 1"
    for unqueued in (0, 1):
        counts = DeliveryCounts(failed=failed, unqueued=unqueued, dead=letters(failed))
        alerts = failure_alerts([counts], RUN)
        assert all((said in alert.text) == bool(unqueued) for alert in alerts.values())


def test_no_failed_event_is_no_alert() -> None:
    assert failure_alerts([DeliveryCounts(delivered=5)], RUN) == {}


def test_tasks_that_failed_are_reported_with_their_reasons() -> None:
    alert = task_failures_alert({None: "no table", 3: "killed"}, RUN)
    assert "no table" in alert.text
    assert "in deliver[3]: killed" in alert.text


def test_events_that_failed_in_a_killed_task_are_reported_from_the_table() -> None:
    world = DeliveryWorld(max_attempts=2)
    world.add(2)
    world.add(1, "old", first=50, status="failed", failed_at=timestamp(START - 1), next_attempt_at=None)
    world.answer = lambda arrival: refused(500)
    counts = world.deliver()
    found = unreported(world.events, ["acme", "old"], since=START)
    assert found == counts.dead
    assert [letter.event_id for letter in found] == ["evt_000000000001", "evt_000000000002"]
