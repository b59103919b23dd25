"""The command by which docker-compose.yaml deploys, on an emulator of its own."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.compose.deploy import SECRETS, main
from local.processes.layout import LOOPBACK, PROJECT_ROOT, PYTHON, choose_ports, clean_environment
from local.services.emulator import aws_client, emulator_command
from tests.worlds.live.waiting import wait_until

PASSWORDS = {name: f"made-up-{number}" for number, name in enumerate(SECRETS)}
PUBLIC = "http://emulator.example"
TWO_DEPLOYMENTS_SECONDS = 900


@contextmanager
def emulator(port: int, scratch: Path) -> Iterator[str]:
    """An emulator with nothing in it."""
    command = emulator_command(port, scratch)
    process = subprocess.Popen(list(map(str, command.arguments)), env=dict(command.environment))
    url = f"http://{LOOPBACK}:{port}"
    try:
        wait_until(lambda: answers(f"{url}/_ministack/health"), what="the emulator")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator where nothing is deployed yet: its APIs can be called in one account only."""
    port = choose_ports("aws")["aws"]
    with emulator(port, tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The functions, built as the image builds them."""
    directory = tmp_path_factory.mktemp("image") / "build"
    assert main(["--build-only", "--build-dir", str(directory)]) == 0
    return directory


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def command(endpoint: str, build: Path) -> list[str]:
    """The service's own command, with addresses and places that exist here."""
    service = yaml.safe_load((PROJECT_ROOT / "docker-compose.yaml").read_text())["services"]["deploy"]
    python, *arguments = service["command"]
    assert python == "python"
    assert "--stay" in arguments
    there = {"--endpoint-url": endpoint, "--public-endpoint-url": PUBLIC, "--build-dir": str(build)}
    pairs = [argument.partition("=") for argument in arguments]
    return [str(PYTHON), *(f"{name}={there.get(name, value)}" if equals else name for name, equals, value in pairs)]


def deploy(endpoint: str, build: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """One deployment: without staying."""
    once = [argument for argument in command(endpoint, build) if argument != "--stay"]
    environment = clean_environment() | variables
    return subprocess.run(once, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)


def secret(endpoint: str, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(
        aws_client("secretsmanager", endpoint).get_secret_value(SecretId=name)["SecretString"]
    )
    return value


@pytest.mark.timeout(TWO_DEPLOYMENTS_SECONDS)
def test_it_deploys_and_may_be_run_again(endpoint: str, build: Path) -> None:
    first, second = (deploy(endpoint, build, **PASSWORDS) for _ in range(2))

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    deployed = json.loads(first.stdout)
    assert json.loads(second.stdout) == deployed
    assert deployed["events_api_url"].startswith(f"{PUBLIC}/_aws/execute-api/")
    local_url = deployed["orders_api_url"].replace(PUBLIC, endpoint)
    assert (
        httpx.post(f"{local_url}/orders", json=[], headers={"Authorization": "Bearer x"}, timeout=30).status_code == 403
    )
    assert secret(endpoint, "airflow/variables/settings")["archive_bucket"] == deployed["archive_bucket"]
    database = secret(endpoint, "airflow/connections/dex_db")
    assert database.pop("password") == PASSWORDS["SQL_READER_PASSWORD"]
    assert database == {
        "conn_type": "mssql",
        "host": "sqlserver",
        "port": 1433,
        "schema": "Clients",
        "login": "archive_reader",
        "extra": {"encryption": "require", "tds_version": "7.4"},
    }
    api = secret(endpoint, "airflow/connections/dex_api")
    assert (api["host"], api["password"]) == ("http://partners:8200", PASSWORDS["DEX_CLIENT_SECRET"])
    parameters = aws_client("ssm", endpoint)
    for name, variable in (("accesskey", "CALL_DETAILS_ACCESS_KEY"), ("secretkey", "CALL_DETAILS_SECRET_KEY")):
        found = parameters.get_parameter(Name=f"/copyazure/{name}", WithDecryption=True)["Parameter"]["Value"]
        assert found == PASSWORDS[variable]
    assert not any(value in run.stdout + run.stderr for run in (first, second) for value in PASSWORDS.values())


@pytest.mark.timeout(TWO_DEPLOYMENTS_SECONDS)
def test_what_stays_deploys_again_when_the_emulator_has_lost_everything(build: Path, tmp_path: Path) -> None:
    port = choose_ports("aws")["aws"]
    stack_file = tmp_path / "state" / "stack.json"
    with emulator(port, tmp_path / "first") as url:
        arguments = [*command(url, build), "--state-directory", str(stack_file.parent)]
        process = subprocess.Popen(arguments, cwd=PROJECT_ROOT, env=clean_environment() | PASSWORDS)
        try:
            wait_until(stack_file.exists, what="the first deployment")
        except AssertionError:
            process.kill()
            raise
    try:
        wait_until(lambda: not stack_file.exists(), what="the look at an emulator that is gone")
        with emulator(port, tmp_path / "second") as url:
            wait_until(stack_file.exists, what="the second deployment")
            stack = json.loads(stack_file.read_text())
            assert secret(url, "airflow/variables/settings")["archive_bucket"] == stack["archive_bucket"]
            assert stack["airflow_token_url"] == "http://api-server:8080/auth/token"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_without_a_secret_it_says_which_and_does_nothing(build: Path) -> None:
    ended = deploy("http://127.0.0.1:1", build, **(PASSWORDS | {"DEX_CLIENT_SECRET": ""}))
    assert ended.returncode == 2
    assert "not in the environment: DEX_CLIENT_SECRET" in ended.stderr


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    ended = deploy("http://127.0.0.1:1", tmp_path / "build", **PASSWORDS, PATH=str(tmp_path))
    assert ended.returncode == 1
    assert "error: 'build' failed" in ended.stderr
