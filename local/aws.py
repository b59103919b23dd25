"""What the stack does on the emulator: the ordinary deployment, then what a person would put in place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.environment import (
    DUMMY_AWS_KEY,
    ENVIRONMENT_NAME,
    REGION,
    StackSecrets,
    aws_environment,
    clean_environment,
)
from local.layout import EMULATOR_VENV, PROJECT_ROOT
from local.processes import Command, StackError

CLOUDFORMATION_STACK = "pipelines-local"
ALERTS_QUEUE = "alerts-inbox-local"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Names of what was created."""

    archive_bucket: str
    alerts_topic_arn: str
    alerts_queue_url: str


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


def deploy_command(endpoint_url: str, **parameters: str) -> Command:
    """The deployment that every environment gets, with the `local` section of infra/samconfig.toml.

    `parameters` are the template's, beside `Environment`.
    """
    return Command(
        name="deploy",
        arguments=[
            _tool("sam"), "deploy",
            "--template-file", PROJECT_ROOT / "infra" / "template.yaml",
            "--config-file", PROJECT_ROOT / "infra" / "samconfig.toml",
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


def finish_deployment(
    endpoint_url: str, *, partners_url: str, client_database: Path, stack_secrets: StackSecrets
) -> Deployment:
    """Put the connections' secret values in place; subscribe a queue to the alerts topic to read them back.

    Raises:
        StackError: the deployed stack lacks an output or a secret that is needed here.
    """
    outputs = _outputs(endpoint_url)
    secretsmanager = aws_client("secretsmanager", endpoint_url)
    for name, value in _connections(partners_url, client_database, stack_secrets).items():
        try:
            secretsmanager.put_secret_value(SecretId=f"airflow/connections/{name}", SecretString=json.dumps(value))
        except secretsmanager.exceptions.ResourceNotFoundException as error:
            raise StackError(f"infra/template.yaml creates no secret 'airflow/connections/{name}': add it") from error
    sqs = aws_client("sqs", endpoint_url)
    queue_url = sqs.create_queue(QueueName=ALERTS_QUEUE)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    aws_client("sns", endpoint_url).subscribe(
        TopicArn=outputs["AlertsTopicArn"], Protocol="sqs", Endpoint=attributes["QueueArn"]
    )
    return Deployment(outputs["ArchiveBucketName"], outputs["AlertsTopicArn"], queue_url)


def _outputs(endpoint_url: str) -> Mapping[str, str]:
    described = aws_client("cloudformation", endpoint_url).describe_stacks(StackName=CLOUDFORMATION_STACK)
    outputs = {item["OutputKey"]: item["OutputValue"] for item in described["Stacks"][0].get("Outputs", [])}
    missing = {"ArchiveBucketName", "AlertsTopicArn"} - outputs.keys()
    if missing:
        raise StackError(f"infra/template.yaml has no output {', '.join(sorted(missing))}: add it")
    return outputs


def _connections(partners_url: str, client_database: Path, stack_secrets: StackSecrets) -> dict[str, dict[str, Any]]:
    """Airflow connections by id, in Airflow's JSON form, pointing at the partner stubs."""
    return {
        "dex_db": {"conn_type": "sqlite", "host": str(client_database)},
        "dex_api": {
            "conn_type": "http",
            "host": partners_url,
            "login": stack_secrets.dex_client_id,
            "password": stack_secrets.dex_client_secret,
            "extra": {"token_url": f"{partners_url}/oauth2/token", "scope": "dex/trigger:all"},
        },
        "slack_alerts": {
            "conn_type": "slackwebhook",
            "host": f"{partners_url}/slack/services",
            "password": "T000/B000/XXXX",
        },
    }


def _tool_environment() -> dict[str, str]:
    environment = clean_environment()
    environment["PATH"] = f"{EMULATOR_VENV / 'bin'}:{environment['PATH']}"
    return environment


def _tool(name: str) -> Path:
    path = EMULATOR_VENV / "bin" / name
    if not path.exists():
        raise StackError(f"{path.relative_to(PROJECT_ROOT)} is missing: run 'make setup'")
    return path
