from itertools import pairwise
from pathlib import Path

import pytest

from local.processes.layout import EMULATOR_VENV
from local.processes.supervisor import Command
from local.services.emulator import build_command, deploy_command, emulator_command, orders_api_url

BUILD = Path("/state/build")


def options(command: list[str]) -> dict[str, str]:
    """Value by option of a command line."""
    return {name: value for name, value in pairwise(command) if name.startswith("--")}


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")


def test_emulator_takes_no_settings_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("LOG_LEVEL", "SERVICES", "USE_SSL", "LAMBDA_EXECUTOR", "PERSIST_STATE", "MINISTACK_REGION")
    for name in names:
        monkeypatch.setenv(name, "theirs")
    environment = emulator_command(4566, Path("/scratch")).environment
    assert not set(names) & set(environment)
    assert {"HOME", "PATH", "PYTHONUTF8"} <= set(environment)


@pytest.mark.parametrize(
    "command", [emulator_command(4566, BUILD), build_command(BUILD), deploy_command("http://127.0.0.1:4566", BUILD)]
)
def test_tools_run_wherever_the_clone_was_moved(command: Command) -> None:
    interpreter, program = command.arguments[:2]
    assert interpreter == EMULATOR_VENV / "bin" / "python"
    assert Path(program).parent == Path(interpreter).parent


def test_build_goes_out_through_the_callers_proxy_and_leaves_the_project_alone() -> None:
    command = build_command(BUILD)
    assert command.environment["https_proxy"] == "http://proxy.example.com:3128"
    assert options([str(part) for part in command.arguments])["--build-dir"] == "/state/build"


def test_deployment_takes_what_was_built_and_stays_on_this_machine() -> None:
    command = deploy_command("http://127.0.0.1:4566", BUILD, AuctionSeed="7")
    arguments = [str(part) for part in command.arguments]
    assert "https_proxy" not in command.environment
    assert options(arguments)["--template-file"] == "/state/build/template.yaml"
    assert {"Environment=local", "AuctionSeed=7"} <= set(arguments)


@pytest.mark.parametrize("wheels", ["aws", "host"])
def test_build_says_what_the_functions_will_run_on(wheels: str) -> None:
    assert build_command(BUILD, wheels=wheels).environment["LAMBDA_WHEELS"] == wheels


def test_local_functions_are_built_for_this_machine_unless_set_otherwise() -> None:
    assert build_command(BUILD).environment["LAMBDA_WHEELS"] == "host"


def test_api_is_called_by_its_id_on_the_emulator() -> None:
    url = orders_api_url("http://127.0.0.1:4566", "abc")
    assert url == "http://127.0.0.1:4566/restapis/abc/prod/_user_request_"
