"""The faults that ``make chaos PLANT=...`` plants can still be planted, and the campaign meets what it aims at."""

import random
import re
from dataclasses import dataclass

import pytest
import yaml

from tests.chaos.aws import SERVICES
from tests.chaos.campaign import Running, drawn
from tests.chaos.plants import PLANTS, ROOT, changed


@dataclass(frozen=True)
class Process:
    alive: bool = True

    def is_running(self) -> bool:
        return self.alive


UNKNOWN = Running(Process(), "LocalExecutor: 1")
PLAN = Running(Process(), "call_details_ingest.plan", "call_details_ingest", "plan")
POST = Running(Process(), "call_details_ingest.post_chunk", "call_details_ingest", "post_chunk")
ENDED = Running(Process(alive=False), "call_details_ingest.post_chunk", "call_details_ingest", "post_chunk")


@pytest.mark.parametrize("name", PLANTS)
def test_a_fault_still_has_its_place_and_leaves_python(name: str) -> None:
    planted = PLANTS[name]
    source = ROOT.joinpath(planted.file).read_text()
    spoilt = changed(source, planted)
    assert spoilt != source
    compile(spoilt, planted.file, "exec")


def test_a_fault_is_aimed_at_a_task_that_there_is_or_a_service_of_aws() -> None:
    dags = "".join(path.read_text() for path in ROOT.glob("dags/*.py"))
    tasks = re.findall(r'(?:task_id="|    def )(\w+)', dags)
    assert {planted.aim for planted in PLANTS.values() if planted.aim} <= {*tasks, *SERVICES}


class Watch:
    """Shows tasks that run at their times, in seconds, on a clock that goes on where one sleeps."""

    def __init__(self, *tasks: tuple[float, float, Running]) -> None:
        self.now, self._tasks = 0.0, tasks

    def look(self) -> list[Running]:
        return [task for begin, end, task in self._tasks if begin <= self.now < end]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drawn(self, aim: str | None, *, chance: random.Random) -> Running | None:
        return drawn(chance, self.look, aim, seconds=10.0, clock=lambda: self.now, sleep=self.sleep)


@pytest.mark.parametrize(
    ("aim", "tasks", "met", "at"),
    [
        ("post_chunk", [(0, 99, UNKNOWN), (0, 99, PLAN), (6, 7, POST)], POST, 6),
        ("post_chunk", [(0, 99, PLAN), (3, 3.2, ENDED), (6, 7, POST)], POST, 6),
        ("post_chunk", [(0, 99, PLAN), (12, 13, POST)], None, 10),
        (None, [(0, 99, PLAN), (6, 7, POST)], PLAN, 0),
        (None, [(6, 7, POST)], None, 0),
    ],
)
def test_an_aimed_fault_waits_for_its_task_and_no_longer_than_it_may(
    aim: str | None, tasks: list[tuple[float, float, Running]], met: Running | None, at: float
) -> None:
    watch = Watch(*tasks)
    assert watch.drawn(aim, chance=random.Random(2)) is met
    assert at <= watch.now < at + 1.2


def test_an_aimed_fault_meets_its_task_at_any_step() -> None:
    moments = []
    for seed in range(20):
        watch = Watch((0, 99, POST))
        assert watch.drawn("post_chunk", chance=random.Random(seed)) is POST
        moments.append(watch.now)
    assert min(moments) < 0.2
    assert max(moments) > 0.3


def test_a_fault_that_is_aimed_at_nothing_may_meet_every_task() -> None:
    watch = Watch((0, 99, UNKNOWN), (0, 99, PLAN), (0, 99, POST))
    met = [watch.drawn(None, chance=random.Random(seed)) for seed in range(20)]
    assert all(task in met for task in (UNKNOWN, PLAN, POST))


@pytest.mark.parametrize("aim", [None, "post_chunk"])
@pytest.mark.parametrize("running", [[], [PLAN], [PLAN, POST], [UNKNOWN, PLAN, ENDED, POST]])
def test_what_runs_changes_nothing_in_the_faults_that_a_seed_gives_next(
    aim: str | None, running: list[Running]
) -> None:
    chance, alone = random.Random(2), random.Random(2)
    Watch(*((0, 99, task) for task in running)).drawn(aim, chance=chance)
    alone.random()
    assert chance.getstate() == alone.getstate()


@pytest.mark.parametrize("source", ["", "x = 1\nx = 1\n"])
def test_a_place_that_is_gone_or_not_the_only_one_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"rate_limit\.py has"):
        changed(source.replace("x = 1", PLANTS["permit"].old), PLANTS["permit"])


def test_every_fault_is_planted_each_night() -> None:
    workflow = yaml.safe_load(ROOT.joinpath(".github/workflows/chaos.yml").read_text())
    assert workflow["jobs"]["plants"]["strategy"]["matrix"]["plant"] == list(PLANTS)
