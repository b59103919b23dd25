"""Control of the stubs: what is refused, and which calls a rule is for."""

from typing import Any

import pytest

from local.partners.control import Control, InvalidControlError
from local.sample.client_database import BROKEN_CLIENT_ID

TRIGGER = "/data-exchange/trigger"
PATHS = (TRIGGER, "/oauth2/token", "/slack/services")


def control_with(*rules: dict[str, Any]) -> Control:
    """Return a control that knows the real paths, with these rules in force."""
    control = Control()
    control.paths, control.parameters = PATHS, ("clientId", "triggerDate")
    control.replace({"rules": list(rules)})
    return control


def chosen(control: Control, path: str = TRIGGER, **query: str) -> int | None:
    """Return the index of the rule that applies to one call."""
    active = control.choose(path, query)
    return None if active is None else active.index


def applied(control: Control, clients: list[str]) -> list[bool]:
    """Ask for the clients in turn and tell for which calls a rule applied."""
    return [chosen(control, clientId=client) is not None for client in clients]


def test_at_start_and_after_a_reset_one_sample_client_is_broken() -> None:
    control = Control()
    for _ in range(2):
        active = control.choose(TRIGGER, {"clientId": str(BROKEN_CLIENT_ID)})
        assert active.rule.status == 200
        assert (active.rule.content() or b"").startswith(b"<!DOCTYPE html>")
        assert control.choose(TRIGGER, {"clientId": str(BROKEN_CLIENT_ID + 7)}) is None
        control.replace({"rules": []})
        assert control.choose(TRIGGER, {"clientId": str(BROKEN_CLIENT_ID)}) is None
        control.reset()


def test_what_is_shown_can_be_put_again() -> None:
    control = control_with({"path": "/slack", "status": 503, "headers": {"Retry-After": "2"}, "count": 3})
    shown = control.shown()
    control.reset()
    control.replace(shown)
    assert control.shown() == shown
    assert shown == {
        "rules": [{"path": "/slack", "status": 503, "headers": {"Retry-After": "2"}, "count": 3}],
        "latency_ms": 0,
        "token_expires_in": 3600,
        "revision": 0,
    }


@pytest.mark.parametrize(
    ("content", "named", "allowed"),
    [
        ({"rule": []}, "rule:", "allowed: rules, latency_ms, token_expires_in, revision"),
        ({"latency_ms": -1}, "latency_ms:", "greater than or equal to 0"),
        ({"rules": [{"status": 500, "stauts": 1}]}, "rules[0].stauts:", "allowed: path, match, after"),
        ({"rules": [{"status": 500}, {"status": 199}]}, "rules[1].status:", "greater than or equal to 200"),
        ({"rules": [{"status": 500, "path": "/data-exchange/triger"}]}, "rules[0].path:", TRIGGER),
        ({"rules": [{"status": 500, "match": {"client": 1}}]}, "rules[0].match:", "allowed: clientId, triggerDate"),
        ({"rules": [{"status": 500, "count": 1, "share": 0.5}]}, "rules[0]:", "one of count, count_each and share"),
        ({"rules": [{"body": "x", "body_base64": "eA=="}]}, "rules[0]:", "one of body and body_base64"),
        ({"rules": [{"cut": "mid", "drip_ms": 5}]}, "rules[0]:", "one of cut and drip_ms"),
        ({"rules": [{"body_base64": "?"}]}, "rules[0].body_base64:", "not base64"),
        ({"rules": [{"headers": {"Content-Length": "3"}}]}, "rules[0].headers:", "use cut"),
        ({"rules": [{"headers": {"X-A": "1\r\nX-B: 2"}}]}, "rules[0].headers:", "on one line"),
        ({"rules": [{"path": TRIGGER, "count": 3}]}, "rules[0]:", "has no effect; give at least one of"),
    ],
)
def test_a_bad_document_is_refused_by_field_and_changes_nothing(content: Any, named: str, allowed: str) -> None:
    control = control_with({"path": "/slack", "status": 503, "count": 2})
    assert chosen(control, "/slack/services/T/B/X") == 0
    with pytest.raises(InvalidControlError) as refused:
        control.replace(content)
    assert any(problem.startswith(named) and allowed in problem for problem in refused.value.problems), (
        refused.value.problems
    )
    # The rule is still there, and so is its count.
    assert [chosen(control, "/slack/services/T/B/X") for _ in range(2)] == [0, None]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InvalidControlError) as refused:
        Control().replace({"revision": -1, "rules": [{"status": 1}, {"cut": "x"}]})
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    ("start", "met"),
    [("/", True), (TRIGGER, True), ("/data-exchange", True), ("/data-exchange/", True), ("/slack", False)],
)
def test_a_path_covers_what_lies_below_it(start: str, met: bool) -> None:
    assert (chosen(control_with({"path": start, "status": 500})) == 0) is met


def test_rule_fits_whole_segments_of_a_path() -> None:
    control = Control()
    control.replace({"rules": [{"path": "/data", "status": 500}]})
    assert chosen(control, TRIGGER) is None


@pytest.mark.parametrize("wanted", [1014, "1014", [1007, 1014], ["1007", "1014"]])
def test_values_match_as_numbers_texts_and_lists(wanted: Any) -> None:
    control = control_with({"match": {"clientId": wanted}, "status": 500})
    assert applied(control, ["1014", "1015"]) == [True, False]
    assert chosen(control, "/slack/services/T/B/X") is None


def test_count_is_for_the_first_calls_and_after_lets_some_pass() -> None:
    assert applied(control_with({"status": 500, "count": 2}), ["1", "2", "3"]) == [True, True, False]
    later = control_with({"status": 500, "after": 2, "count": 1})
    assert applied(later, ["1", "2", "3", "4"]) == [False, False, True, False]
    assert applied(control_with({"status": 500, "after": 1}), ["1", "2", "3"]) == [False, True, True]


def test_calls_of_others_do_not_count() -> None:
    control = control_with({"status": 500, "match": {"clientId": 2}, "count": 1})
    assert applied(control, ["1", "1", "2", "2"]) == [False, False, True, False]


def test_count_each_is_for_the_first_calls_of_every_question() -> None:
    control = control_with({"status": 500, "count_each": 1})
    assert applied(control, ["1", "2", "1", "2", "3"]) == [True, True, False, False, True]


def test_share_is_about_that_share_and_the_same_in_every_order() -> None:
    clients = [str(client) for client in range(2000)]
    rule = {"status": 500, "share": 0.2}
    forwards = dict(zip(clients, applied(control_with(rule), clients), strict=True))
    backwards = dict(zip(clients[::-1], applied(control_with(rule), clients[::-1]), strict=True))
    assert forwards == backwards
    assert 320 <= sum(forwards.values()) <= 480
    other_seed = dict(zip(clients, applied(control_with(rule | {"seed": 1}), clients), strict=True))
    assert other_seed != forwards


def test_share_draws_a_retry_anew() -> None:
    attempts = applied(control_with({"status": 500, "share": 0.5}), ["1"] * 40)
    assert True in attempts
    assert False in attempts


@pytest.mark.parametrize(("share", "expected"), [(0, False), (1, True)])
def test_share_of_0_is_no_call_and_of_1_is_every_call(share: float, expected: bool) -> None:
    assert set(applied(control_with({"status": 500, "share": share}), [str(n) for n in range(100)])) == {expected}


def test_the_first_rule_that_applies_wins_and_the_next_takes_over() -> None:
    control = control_with({"status": 500, "count": 1}, {"status": 503, "count": 1}, {"path": "/slack", "cut": "mid"})
    assert [chosen(control) for _ in range(3)] == [0, 1, None]
