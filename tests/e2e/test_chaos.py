"""A short campaign of load and faults on a stack of its own (``make chaos`` runs long ones)."""

from pathlib import Path

import pytest
from rich.console import Console

from local.services.airflow import Executor
from tests.chaos.__main__ import run

SEED = 2


@pytest.fixture(autouse=True)
def no_run_left() -> None:
    """The campaign has a stack of its own, so that the session's need not be started for it."""


@pytest.mark.timeout(1800)
def test_three_minutes_of_faults_lose_nothing_and_leave_nothing_behind(tmp_path: Path, executor: Executor) -> None:
    assert run(tmp_path, minutes=3, seed=SEED, executor=executor, console=Console(highlight=False, width=110))
