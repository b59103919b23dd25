"""Webhooks of all kinds, whose events are due at the same time: each owner's reach it in order, or end as failed."""

from local.stack.description import Stack
from tests.worlds.live.delivery import Delivery
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.secrets import Secrets

ATTEMPTS = 4


def test_receiver_that_hangs_holds_up_nobody_else(delivery: Delivery, partners: Partners) -> None:
    hung, fine = delivery.owner("hung"), delivery.owner("prompt")
    partners.order(hung.rule(latency_ms=60_000))
    stuck = delivery.post(hung)
    delivery.wait_for_arrival(stuck, hung)
    for _ in range(2):
        delivery.wait_for("delivered", delivery.post(fine))
    assert delivery.event(stuck)["status"] == "pending"
    assert delivery.call(hung, "POST", f"/events/{stuck}/acknowledge").status_code == 204


def test_receivers_that_fail_get_their_own_events_in_order_or_lose_them(
    stack: Stack, delivery: Delivery, partners: Partners, inbox: Inbox, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, max_delivery_attempts=ATTEMPTS)
    fine, flaky, dead, gone, moved = map(delivery.owner, ("fine", "flaky", "dead", "gone", "moved"))
    partners.order(
        flaky.rule(count=1, status=503),
        flaky.rule(count=1, cut="before"),
        flaky.rule(count=1, status=500),
        dead.rule(count=ATTEMPTS, status=500),
        gone.rule(status=410),
        moved.rule(count=1, status=307, headers={"Location": "/receivers/elsewhere"}),
    )
    first, second = ({owner: delivery.post(owner) for owner in (flaky, dead, gone, moved, fine)} for _ in range(2))
    delivery.wait_for("delivered", *(events[owner] for events in (first, second) for owner in (flaky, moved, fine)))
    delivery.wait_for("failed", first[dead])
    delivery.wait_for("delivered", second[dead])
    assert delivery.arrived(fine) == [first[fine], second[fine]]
    assert delivery.arrived(flaky) == [first[flaky]] * 4 + [second[flaky]]
    assert delivery.arrived(dead) == [first[dead]] * ATTEMPTS + [second[dead]]
    assert delivery.arrived(moved) == [first[moved]] * 2 + [second[moved]]
    assert delivery.arrivals("elsewhere") == []
    assert delivery.arrived(gone) == [first[gone]]
    assert {delivery.event(events[gone])["status"] for events in (first, second)} == {"pending"}
    off = delivery.subscription(gone)
    assert (off["active"], off["deactivated_reason"]) == (False, "the receiver answered 410 Gone")
    assert [delivery.event(first[owner])["delivery_attempts"] for owner in (fine, dead)] == [1, ATTEMPTS]
    # The post that was cut is repeated within its attempt if its connection had served the one before.
    assert delivery.event(first[flaky])["delivery_attempts"] in (3, 4)

    (letter,) = delivery.dead_letters(first[dead])
    assert letter.items() >= {"owner": dead.name, "attempts": ATTEMPTS, "last_status": 500}.items()
    assert letter["first_failed_at"] == delivery.event(first[dead])["first_failed_at"]
    delivery.pipeline.wait_until_idle()
    (sns,) = [text for text in inbox.sns() if first[dead] in text]
    (slack,) = [text for text in inbox.slack() if first[dead] in text]
    assert f"event {first[dead]} could not be delivered" in sns
    assert f"{ATTEMPTS} attempts since " in slack
    others = {first[owner] for owner in first if owner is not dead} | set(second.values())
    assert [text for text in inbox.sns() for event_id in others if event_id in text] == []
