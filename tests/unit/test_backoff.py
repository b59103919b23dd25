from __future__ import annotations

from include.backoff import Backoff


def test_pauses_grow_to_their_limit_and_chance_adds_up_to_half() -> None:
    backoff = Backoff(first=1, longest=60)
    for _ in range(200):
        assert 1 <= backoff.seconds(1) <= 1.5
        assert 4 <= backoff.seconds(3) <= 6
        assert 60 <= backoff.seconds(30) <= 90
        assert 60 <= backoff.seconds(10_000) <= 90


def test_a_pause_is_no_shorter_than_what_was_asked_for_and_that_has_a_limit() -> None:
    backoff = Backoff(first=1, longest=60)
    for _ in range(200):
        assert 30 <= backoff.seconds(1, 30.0) <= 30.5
        assert 60 <= backoff.seconds(1, float("inf")) <= 60.5


def test_first_pause_has_the_limit_too() -> None:
    assert all(Backoff(first=10, longest=2, jitter=1).seconds(1) <= 4 for _ in range(200))


def test_without_chance_pauses_are_exact() -> None:
    assert [Backoff(first=2, growth=1.5, longest=4, jitter=0).seconds(n) for n in (1, 2, 3)] == [2, 3, 4]
