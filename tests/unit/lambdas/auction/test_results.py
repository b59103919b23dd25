import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lambdas.auction.results import results

SEEDS = st.text(max_size=20)
PROBABILITIES = st.floats(0, 1)
LIMITS = st.integers(1, 50)


def answers(number: int, *, seed: str = "seed", probability: float = 0.5, max_orders: int = 10) -> list[dict[str, Any]]:
    random = Random(seed)
    return [results(random, probability, max_orders) for _ in range(number)]


@given(SEEDS, PROBABILITIES, LIMITS)
def test_every_answer_has_the_form_of_the_contract(seed: str, probability: float, max_orders: int) -> None:
    for answer in answers(5, seed=seed, probability=probability, max_orders=max_orders):
        assert json.loads(json.dumps(answer)) == answer
        if answer["results"] is False:
            assert set(answer) == {"results"}
            continue
        assert answer["results"] is True
        assert set(answer) == {"results", "orders"}
        assert 1 <= len(answer["orders"]) <= max_orders
        for order in answer["orders"]:
            assert set(order) == {"status", "power"}
            assert order["status"] in ("accepted", "rejected")
            assert isinstance(order["power"], int)
            assert order["power"] > 0


@given(SEEDS, PROBABILITIES, LIMITS)
def test_seed_repeats_the_sequence(seed: str, probability: float, max_orders: int) -> None:
    first, second = (answers(8, seed=seed, probability=probability, max_orders=max_orders) for _ in range(2))
    assert first == second


def test_sequence_of_a_seed_is_not_one_answer_again_and_again() -> None:
    found = [json.dumps(answer) for answer in answers(20, probability=1)]
    assert len(set(found)) > 10
    assert answers(20, seed="another", probability=1) != answers(20, probability=1)


def test_probability_decides_how_often_there_are_results() -> None:
    assert not any(answer["results"] for answer in answers(300, probability=0))
    assert all(answer["results"] for answer in answers(300, probability=1))
    assert 200 < sum(answer["results"] for answer in answers(1_000, probability=0.3)) < 400


def test_both_statuses_and_every_number_of_orders_come_up() -> None:
    found = answers(300, probability=1, max_orders=4)
    assert {order["status"] for answer in found for order in answer["orders"]} == {"accepted", "rejected"}
    assert {len(answer["orders"]) for answer in found} == {1, 2, 3, 4}
