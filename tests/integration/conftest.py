"""The AWS emulator of the integration tests, with the application template deployed by the SAM CLI."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import httpx
import pytest

from local.processes.layout import DUMMY_AWS_KEY, LOOPBACK, PROJECT_ROOT, REGION, choose_ports
from local.processes.supervisor import Command, describe_log
from local.services.emulator import answer_preflights, build_command, deploy_command, emulator_command, stack_outputs
from local.services.emulator import orders_api_url as stage_url
from tests.integration.deployed_api import CALL_SECONDS, TLS
from tests.integration.events import EventsApi

HERE = Path(__file__).parent
EMPTY_ACCOUNTS = itertools.count(100_000_000_000)
START_SECONDS = 180
BUILD_SECONDS = 300
DEPLOY_SECONDS = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this directory may talk to this machine, and to nothing else."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.allow_hosts([LOOPBACK]))


SERVICES = {
    **{name: name for name in ("s3", "cloudwatch", "cloudformation", "sns", "sqs", "dynamodb", "apigateway")},
    "secrets": "secretsmanager",
    "functions": "lambda",
}


@dataclass(frozen=True)
class Aws:
    """The emulator as one account of it: clients by the names of ``SERVICES``, and the deployment of the template.

    Args:
        endpoint: address of the emulator.
        account: 12 digits; accounts share nothing. The emulator takes it from the access key.
        build: directory of the template and the functions as ``sam build`` left them.
    """

    endpoint: str
    account: str
    build: Path

    def session(self) -> boto3.Session:
        """A session of this account; clients also need ``endpoint_url``."""
        return boto3.Session(aws_access_key_id=self.account, aws_secret_access_key=DUMMY_AWS_KEY, region_name=REGION)

    def __getattr__(self, name: str) -> Any:
        """A boto3 client of this account, made once."""
        if name not in SERVICES:
            raise AttributeError(name)
        return self.__dict__.setdefault(name, self.session().client(SERVICES[name], endpoint_url=self.endpoint))

    def deploy(self, **parameters: str) -> dict[str, str]:
        """Deploy the built template as environment ``local`` and return the stack's outputs."""
        command = deploy_command(self.endpoint, self.build, **parameters)
        run(command, {"AWS_ACCESS_KEY_ID": self.account}, timeout=DEPLOY_SECONDS)
        return dict(stack_outputs(self.cloudformation))


def run(command: Command, variables: Mapping[str, str], *, timeout: float) -> None:
    """Run a command of the local stack to its end, with ``variables`` added to its environment."""
    done = subprocess.run(
        list(command.arguments),
        env={**command.environment, **variables},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MiniStack of this session's own; yields its address."""
    with running_emulator(tmp_path_factory.mktemp("emulator")) as (endpoint, _):
        yield endpoint


@contextmanager
def running_emulator(scratch: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A MiniStack on a free port: its address, and the process that guards it."""
    port = choose_ports("emulator")["emulator"]
    log = scratch / "emulator.log"
    command = emulator_command(port, scratch)
    with (
        log.open("wb") as output,
        # Closing the pipe, as leaving this block does, is what tells the guard to end the emulator.
        subprocess.Popen(
            [sys.executable, "-m", "local.processes.guard", "--", *command.arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=PROJECT_ROOT,
            env=dict(command.environment),
        ) as process,
    ):
        endpoint = f"http://{LOOPBACK}:{port}"
        _wait_until_healthy(endpoint, process, log)
        yield endpoint, process


def _wait_until_healthy(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{endpoint}/_ministack/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the emulator did not become healthy; its log:\n{describe_log(log)}")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template and the functions, built once a session to run on this machine."""
    directory = tmp_path_factory.mktemp("build")
    run(build_command(directory), {}, timeout=BUILD_SECONDS)
    return directory


@pytest.fixture(scope="session")
def aws(emulator: str, build: Path) -> Aws:
    """The account that tests share; whoever changes what others rely on takes ``empty_account``."""
    return Aws(emulator, "000000000000", build)


@pytest.fixture
def empty_account(emulator: str, build: Path) -> Aws:
    """An account in which nothing exists, of this test's own."""
    return Aws(emulator, str(next(EMPTY_ACCOUNTS)), build)


@pytest.fixture(scope="session")
def outputs(aws: Aws) -> Mapping[str, str]:
    """Outputs of the template, deployed into the shared account.

    With its defaults, but for the APIs' limits: they are made for many callers, and tests call as fast as they can.
    """
    limits = [f"{api}Api{kind}Limit" for api in ("Orders", "Events") for kind in ("Rate", "Burst")]
    return aws.deploy(**dict.fromkeys(limits, "1000"), EventsApiKeyLimit="1000000")


@pytest.fixture
def archive_bucket(outputs: Mapping[str, str]) -> str:
    return outputs["ArchiveBucketName"]


@pytest.fixture
def order_results_bucket(outputs: Mapping[str, str]) -> str:
    return outputs["OrderResultsBucketName"]


@pytest.fixture
def orders_api_url(aws: Aws, outputs: Mapping[str, str]) -> str:
    return stage_url(aws.endpoint, outputs["OrdersApiId"])


@pytest.fixture(scope="session")
def events_api(aws: Aws, outputs: Mapping[str, str]) -> Iterator[EventsApi]:
    answer_preflights(aws.session().client("apigatewayv2", endpoint_url=aws.endpoint), outputs["EventsApiId"])
    with httpx.Client(timeout=CALL_SECONDS, verify=TLS) as client:
        yield EventsApi(aws, outputs, client)
