"""Owners who change their minds while their events are being delivered."""

from tests.worlds.live.delivery import Delivery, Owner
from tests.worlds.live.partners import Partners
from tests.worlds.live.waiting import wait_until


def pending(delivery: Delivery, owner: Owner) -> list[str]:
    """What the owner's inbox shows."""
    return [event["event_id"] for event in delivery.call(owner, "GET", "/inbox").json()["events"]]


def test_what_is_acknowledged_or_deleted_is_posted_no_more_and_what_is_replayed_comes_again(
    delivery: Delivery, partners: Partners
) -> None:
    owner = delivery.owner("owner")
    partners.order(owner.rule(status=503, headers={"Retry-After": "3600"}))
    read, deleted, kept = (delivery.post(owner) for _ in range(3))
    wait_until(lambda: delivery.event(read)["delivery_attempts"] == 1, what=f"the refusal of {read}")
    assert pending(delivery, owner) == [read, deleted, kept], "those behind the first wait for it"

    for _ in range(2):
        assert delivery.call(owner, "POST", f"/events/{read}/acknowledge").status_code == 204
    assert [delivery.call(owner, "DELETE", f"/events/{deleted}").status_code for _ in range(2)] == [204, 404]
    partners.order()
    last = delivery.post(owner)
    delivery.wait_for("delivered", kept, last)
    assert delivery.arrived(owner) == [read, kept, last]
    assert delivery.event(read)["status"] == "acknowledged"

    for event_id in (last, read):
        assert delivery.call(owner, "POST", f"/events/{event_id}/replay").status_code == 202
        delivery.wait_for("delivered", event_id)
    assert delivery.arrived(owner) == [read, kept, last, last, read]
    assert pending(delivery, owner) == []
    assert delivery.event(read)["delivery_attempts"] == 1
