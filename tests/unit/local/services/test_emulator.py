from itertools import pairwise
from pathlib import Path

import pytest

from local.services.emulator import build_command, deploy_command, orders_api_url

BUILD = Path("/state/build")


def options(command: list[str]) -> dict[str, str]:
    """Value by option of a command line."""
    return {name: value for name, value in pairwise(command) if name.startswith("--")}


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")


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
