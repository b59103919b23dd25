"""The emulator, and the ordinary build and deployment of the template on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.environment import (
    DUMMY_AWS_KEY,
    ENVIRONMENT_NAME,
    REGION,
    aws_environment,
    clean_environment,
)
from local.layout import EMULATOR_VENV, PROJECT_ROOT
from local.processes import Command, StackError

CLOUDFORMATION_STACK = "pipelines-local"

_TEMPLATE = PROJECT_ROOT / "infra" / "template.yaml"
_SAM_CONFIG = PROJECT_ROOT / "infra" / "samconfig.toml"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def aws_client(service: str, endpoint_url: str) -> Any:
    """A boto3 client of one service of the emulator."""
    # boto3's stubs know one overload a service name; the name is a variable here.
    create: Callable[..., Any] = boto3.client
    return create(
        service,
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=DUMMY_AWS_KEY,
        aws_secret_access_key=DUMMY_AWS_KEY,
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=30),
    )


def emulator_command(port: int, scratch: Path) -> Command:
    """MiniStack on one loopback port; what it keeps on disk goes below `scratch`."""
    return Command(
        name="emulator",
        arguments=[_tool("ministack")],
        environment={
            **_tool_environment(),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            # Listeners that nothing here uses; they would open on all interfaces.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(scratch),
            "S3_DATA_DIR": str(scratch / "s3"),
        },
        grace=3,
    )


def build_command(build_directory: Path, *, wheels: str = "host") -> Command:
    """Fill the functions' folders below `build_directory`, with a `template.yaml` that names them.

    `wheels` says what the functions will run on: `host` is this machine, where the emulator runs them, `aws` is
    Lambda (see lambdas/Makefile).
    """
    # Wheels that are not in the installer's cache yet come over the network, and that may need a proxy.
    proxies = {name: value for name, value in os.environ.items() if name.lower() in _PROXIES}
    return Command(
        name="build",
        arguments=[
            _tool("sam"), "build",
            "--template-file", _TEMPLATE,
            "--config-file", _SAM_CONFIG,
            "--build-dir", build_directory,
        ],
        environment={**_tool_environment(), **proxies, "SAM_CLI_TELEMETRY": "0", "LAMBDA_WHEELS": wheels},
    )  # fmt: skip


def deploy_command(endpoint_url: str, build_directory: Path, **parameters: str) -> Command:
    """The deployment that every environment gets, with the `local` section of infra/samconfig.toml.

    `build_directory` is what `build_command` filled; `parameters` are the template's, beside `Environment`.
    """
    return Command(
        name="deploy",
        arguments=[
            _tool("sam"), "deploy",
            "--template-file", build_directory / "template.yaml",
            "--config-file", _SAM_CONFIG,
            "--config-env", ENVIRONMENT_NAME,
            "--stack-name", CLOUDFORMATION_STACK,
            "--parameter-overrides", f"Environment={ENVIRONMENT_NAME}",
            *(f"{name}={value}" for name, value in parameters.items()),
            "--no-progressbar",
        ],
        environment={
            **_tool_environment(),
            **aws_environment(endpoint_url),
            "SAM_CLI_TELEMETRY": "0",
            # Asks twice a second whether the stack is there; the default of 5 s is made for AWS.
            "SAM_CLI_POLL_DELAY": "0.5",
        },
    )  # fmt: skip


def _tool_environment() -> dict[str, str]:
    environment = clean_environment()
    environment["PATH"] = f"{EMULATOR_VENV / 'bin'}:{environment['PATH']}"
    return environment


def _tool(name: str) -> Path:
    path = EMULATOR_VENV / "bin" / name
    if not path.exists():
        raise StackError(f"{path.relative_to(PROJECT_ROOT)} is missing: run 'make setup'")
    return path
