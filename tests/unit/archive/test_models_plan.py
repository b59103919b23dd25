import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.models import CALLS_AT_ONCE, TASKS_AT_ONCE, Client, Plan, Slice, calls_of_task, cut

SIZES = st.integers(0, 3000)


def clients(count: int) -> list[Client]:
    return [Client(10 + number, f"Client {number}") for number in range(count)]


@given(SIZES, st.integers(1, 1024), st.integers(1, 4000))
def test_slices_cover_all_in_order_and_stay_balanced(count: int, max_tasks: int, per_task: int) -> None:
    slices = cut(clients(count), max_tasks=max_tasks, clients_per_task=per_task)
    positions = [position for piece in slices for position in range(piece.start, piece.stop)]
    assert positions == list(range(count))
    assert len(slices) <= max_tasks
    sizes = [piece.stop - piece.start for piece in slices]
    assert all(sizes), "an empty slice would be a task without work"
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@given(st.integers(1, 300), st.integers(0, 50), st.integers(1, 400))
def test_up_to_the_limit_every_client_has_a_task(count: int, spare: int, per_task: int) -> None:
    slices = cut(clients(count), max_tasks=count + spare, clients_per_task=per_task)
    assert [piece.label for piece in slices] == [f"{client.id} {client.name}" for client in clients(count)]


@given(st.integers(2, 3000), st.integers(1, 400))
def test_beyond_the_limit_groups_are_as_large_as_asked(count: int, per_task: int) -> None:
    slices = cut(clients(count), max_tasks=min(count - 1, 1024), clients_per_task=per_task)
    largest = max(piece.stop - piece.start for piece in slices)
    assert largest <= max(per_task, -(-count // min(count - 1, 1024)))


@pytest.mark.parametrize(("count", "tasks"), [(0, 0), (1, 1), (500, 500), (501, 3), (10_000, 40)])
def test_number_of_tasks_with_the_default_settings(count: int, tasks: int) -> None:
    assert len(cut(clients(count), max_tasks=500, clients_per_task=250)) == tasks


@pytest.mark.parametrize(
    ("most", "tasks", "calls"),
    [(64, 1, 64), (64, 4, 64), (64, 5, 51), (64, 10, 25), (64, 500, 16), (2, 1, 2), (64, 0, 64)],
)
def test_few_tasks_share_the_calls_that_are_announced_for_all(most: int, tasks: int, calls: int) -> None:
    assert calls_of_task(most, tasks=tasks) == calls
    assert calls * min(tasks, TASKS_AT_ONCE) <= CALLS_AT_ONCE


def test_labels_say_what_is_inside() -> None:
    assert [piece.label for piece in cut(clients(5), max_tasks=2, clients_per_task=3)] == [
        "10-11 (2 clients)",
        "12-14 (3 clients)",
    ]


def test_label_of_a_client_is_printable_and_short() -> None:
    (piece,) = cut([Client(1091, "Rhine\x1b\nPeak " + "x" * 200)], max_tasks=1, clients_per_task=1)
    assert piece.label.startswith("1091 Rhine\\x1b Peak xxx")
    assert len(piece.label) == 80


CLIENTS = st.lists(st.builds(Client, st.integers(), st.text()), max_size=20).map(tuple)
SLICES = st.lists(st.builds(Slice, st.integers(0), st.integers(0), st.text()), max_size=20).map(tuple)


@given(
    st.builds(Plan, st.text(), st.integers(0), st.dates(), st.booleans(), st.integers(1), st.text(), CLIENTS, SLICES)
)
def test_plan_is_read_as_it_was_written(plan: Plan) -> None:
    assert Plan.from_document(json.loads(json.dumps(plan.to_document()))) == plan


def test_document_names_the_trigger_date() -> None:
    plan = Plan("run", 0, date(2026, 3, 8), False, 16, "", (), ())
    assert plan.to_document()["trigger_date"] == "2026-03-08"


def test_plan_of_the_release_before_is_read_without_a_lock() -> None:
    plan = Plan("run", 0, date(2026, 3, 8), False, 16, "", (), (), ("COMPLIANCE", 30))
    document = json.loads(json.dumps(plan.to_document()))
    assert Plan.from_document(document) == plan
    del document["lock"]
    assert Plan.from_document(document) == replace(plan, lock=("NONE", 0))
