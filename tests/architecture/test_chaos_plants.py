"""The faults that ``make chaos PLANT=...`` plants can still be planted."""

import re

import pytest
import yaml

from tests.chaos.plants import PLANTS, ROOT, changed


@pytest.mark.parametrize("name", PLANTS)
def test_a_fault_still_has_its_place_and_leaves_python(name: str) -> None:
    planted = PLANTS[name]
    source = ROOT.joinpath(planted.file).read_text()
    spoilt = changed(source, planted)
    assert spoilt != source
    compile(spoilt, planted.file, "exec")


def test_a_fault_is_aimed_at_a_task_that_there_is() -> None:
    dags = "".join(path.read_text() for path in ROOT.glob("dags/*.py"))
    tasks = re.findall(r'(?:task_id="|    def )(\w+)', dags)
    assert {planted.aim for planted in PLANTS.values() if planted.aim} <= set(tasks)


@pytest.mark.parametrize("source", ["", "x = 1\nx = 1\n"])
def test_a_place_that_is_gone_or_not_the_only_one_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"rate_limit\.py has"):
        changed(source.replace("x = 1", PLANTS["permit"].old), PLANTS["permit"])


def test_every_fault_is_planted_each_night() -> None:
    workflow = yaml.safe_load(ROOT.joinpath(".github/workflows/chaos.yml").read_text())
    assert workflow["jobs"]["plants"]["strategy"]["matrix"]["plant"] == list(PLANTS)
