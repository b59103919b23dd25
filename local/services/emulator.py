"""The emulator: the ordinary build and deployment of the template on it, and what people would put in place then."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.processes.layout import (
    DUMMY_AWS_KEY,
    EMULATOR_VENV,
    ENVIRONMENT_NAME,
    PROJECT_ROOT,
    REGION,
    StackSecrets,
    aws_environment,
    clean_environment,
    proxies,
)
from local.processes.supervisor import Command, StackError

CLOUDFORMATION_STACK = "pipelines-local"

_TEMPLATE = PROJECT_ROOT / "infra" / "template.yaml"
_SAM_CONFIG = PROJECT_ROOT / "infra" / "samconfig.toml"


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


_EMULATOR_NEEDS = frozenset(
    {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONUNBUFFERED", "PYTHONUTF8", "TZ"}
)
"""Of the shell. MiniStack takes settings from over a hundred variables, of which some have the names of many others'
(LOG_LEVEL), and some are LocalStack's (SERVICES, LAMBDA_EXECUTOR, USE_SSL)."""


def emulator_command(port: int, scratch: Path) -> Command:
    """MiniStack on one loopback port; what it keeps on disk goes below `scratch`."""
    return Command(
        name="emulator",
        arguments=_tool("ministack"),
        environment={
            **{name: value for name, value in _tool_environment().items() if name in _EMULATOR_NEEDS},
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
    """Fill the functions' folders below `build_directory`, with a `template.yaml` and nested ones that name them.

    `wheels` says what the functions will run on: `host` is this machine, where the emulator runs them, `aws` is
    Lambda (see lambdas/Makefile).
    """
    return Command(
        name="build",
        arguments=[
            *_tool("sam"), "build",
            "--template-file", _TEMPLATE,
            "--config-file", _SAM_CONFIG,
            "--build-dir", build_directory,
        ],
        # Wheels that are not in the installer's cache yet come over the network, and that may need a proxy.
        environment={**_tool_environment(), **proxies(), "SAM_CLI_TELEMETRY": "0", "LAMBDA_WHEELS": wheels},
    )  # fmt: skip


def deploy_command(endpoint_url: str, build_directory: Path, **parameters: str) -> Command:
    """The deployment that every environment gets, with the `local` section of infra/samconfig.toml.

    `build_directory` is what `build_command` filled; `parameters` are the template's, beside `Environment`.
    """
    return Command(
        name="deploy",
        arguments=[
            *_tool("sam"), "deploy",
            "--template-file", build_directory / "template.yaml",
            "--config-file", _SAM_CONFIG,
            "--config-env", ENVIRONMENT_NAME,
            "--stack-name", CLOUDFORMATION_STACK,
            "--parameter-overrides", f"Environment={ENVIRONMENT_NAME}", "JwtAudience=orders-api",
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


def _tool(name: str) -> list[Path]:
    """How to run a tool: by its own interpreter, as its first line names another one in a clone that was moved."""
    path = EMULATOR_VENV / "bin" / name
    if not path.exists():
        raise StackError(f"{path.relative_to(PROJECT_ROOT)} is missing: run 'make setup'")
    return [EMULATOR_VENV / "bin" / "python", path]


ALERTS_QUEUE = "alerts-inbox-local"

TEMPLATE_PARAMETERS = {
    # Nobody waits long for an auction here, and still a sensor is seen that has to ask again.
    "AuctionResultsProbability": "0.6",
    # One machine has one caller: a limit made for many would only get in its way.
    "OrdersApiRateLimit": "1000",
    "OrdersApiBurstLimit": "1000",
    "EventsApiRateLimit": "1000",
    "EventsApiBurstLimit": "1000",
    "EventsApiKeyLimit": "1000000",
}
"""The template's parameters on the emulator, beside the DEX API's address."""

CORS = {
    "AllowOrigins": ["*"],
    "AllowMethods": ["GET", "HEAD", "POST", "DELETE"],
    "AllowHeaders": ["authorization", "content-type", "x-api-key"],
    "ExposeHeaders": ["retry-after"],
    "MaxAge": 600,
}
"""As infra/stacks/events_api.yaml has it."""

_ORDERS_API_STAGE = "prod"


_OUTPUTS = {
    "archive_bucket": "ArchiveBucketName",
    "alerts_topic_arn": "AlertsTopicArn",
    "order_results_bucket": "OrderResultsBucketName",
    "auction_results_function": "AuctionResultsFunctionName",
    "auction_order_function": "AuctionOrderFunctionName",
    "orders_table": "OrdersTableName",
    "orders_jwt_secret": "OrdersJwtSecretName",
    "ingest_bucket": "IngestBucketName",
    "ingest_ledger_table": "IngestLedgerTableName",
    "call_details_dlq_url": "CallDetailsDeadLettersUrl",
    "events_table": "EventsTableName",
    "api_keys_table": "ApiKeysTableName",
    "subscriptions_table": "SubscriptionsTableName",
    "event_queue_url": "EventQueueUrl",
    "event_dlq_url": "EventDeadLettersUrl",
}
"""Outputs of the template by field of :class:`local.stack.description.Stack`."""


def finish_deployment(
    endpoint_url: str, *, partners_url: str, client_database: Mapping[str, Any], stack_secrets: StackSecrets
) -> dict[str, str]:
    """Put connections and keys in place; subscribe a queue to the alerts topic to read them back.

    `client_database` is the connection `dex_db` in Airflow's JSON form.

    Returns:
        names of what was created, by field of :class:`local.stack.description.Stack`.

    Raises:
        StackError: the deployed stack lacks an output or a secret that is needed here.
    """
    sqs = aws_client("sqs", endpoint_url)
    outputs = stack_outputs(aws_client("cloudformation", endpoint_url))
    try:
        names = {name: outputs[key] for name, key in _OUTPUTS.items()} | {
            "orders_api_url": orders_api_url(endpoint_url, outputs["OrdersApiId"]),
            "events_api_url": events_api_url(endpoint_url, outputs["EventsApiId"]),
        }
    except KeyError as error:
        raise StackError(f"infra/template.yaml has no output {error}: add it") from None
    secretsmanager = aws_client("secretsmanager", endpoint_url)
    for name, value in _connections(partners_url, client_database, stack_secrets).items():
        try:
            secretsmanager.put_secret_value(SecretId=f"airflow/connections/{name}", SecretString=json.dumps(value))
        except secretsmanager.exceptions.ResourceNotFoundException as error:
            raise StackError(f"no template makes a secret 'airflow/connections/{name}': add it") from error
    ssm = aws_client("ssm", endpoint_url)
    for name, key in (
        # Those that the connection takes unless it names others.
        ("/copyazure/accesskey", stack_secrets.call_details_access_key),
        ("/copyazure/secretkey", stack_secrets.call_details_secret_key),
    ):
        ssm.put_parameter(Name=name, Value=key, Type="SecureString", Overwrite=True)
    queue_url = sqs.create_queue(QueueName=ALERTS_QUEUE)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    aws_client("sns", endpoint_url).subscribe(
        TopicArn=names["alerts_topic_arn"], Protocol="sqs", Endpoint=queue["QueueArn"]
    )
    _silence_alarms_of_aws(aws_client("cloudwatch", endpoint_url))
    answer_preflights(aws_client("apigatewayv2", endpoint_url), outputs["EventsApiId"])
    return {**names, "alerts_queue_url": queue_url}


def stack_outputs(cloudformation: Any) -> Mapping[str, str]:
    """Outputs of the deployed template by key. `cloudformation` is a boto3 client."""
    described = cloudformation.describe_stacks(StackName=CLOUDFORMATION_STACK)["Stacks"][0]
    return {item["OutputKey"]: item["OutputValue"] for item in described.get("Outputs", [])}


def orders_api_url(endpoint_url: str, api_id: str) -> str:
    """Address of the orders API's stage on the emulator, which serves no host names as AWS does."""
    return f"{endpoint_url}/restapis/{api_id}/{_ORDERS_API_STAGE}/_user_request_"


def events_api_url(endpoint_url: str, api_id: str) -> str:
    """Address of the events API on the emulator, where the name of the stage `$default` is part of it.

    Its `$` is quoted, or shells would take it for a variable.
    """
    return f"{endpoint_url}/_aws/execute-api/{api_id}/%24default"


def answer_preflights(apigatewayv2: Any, api_id: str) -> None:
    """Have the events API answer a browser's preflight.

    The emulator keeps the template's `CorsConfiguration` under names of another case than those that it reads.
    """
    apigatewayv2.update_api(ApiId=api_id, CorsConfiguration=CORS)


def _silence_alarms_of_aws(cloudwatch: Any) -> None:
    """Keep alarms on AWS's own metrics from publishing.

    The emulator compares an alarm with every metric of its name, whatever the dimensions: a rejected order, which is
    an error of auction-order, would ring the alarms of all other functions.
    """
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    cloudwatch.disable_alarm_actions(
        AlarmNames=[alarm["AlarmName"] for alarm in alarms if alarm["Namespace"].startswith("AWS/")]
    )


def _connections(
    partners_url: str, client_database: Mapping[str, Any], stack_secrets: StackSecrets
) -> dict[str, Mapping[str, Any]]:
    """Airflow connections by id, in Airflow's JSON form, pointing at the partner stubs."""
    return {
        "dex_db": client_database,
        "dex_api": {
            "conn_type": "http",
            "host": partners_url,
            "login": stack_secrets.dex_client_id,
            "password": stack_secrets.dex_client_secret,
            "extra": {"token_url": f"{partners_url}/oauth2/token", "scope": "dex/trigger:all"},
        },
        "call_details_api": {
            "conn_type": "http",
            "host": f"{partners_url}/call-details/batches",
            "extra": {"auth_url": f"{partners_url}/call-details/login"},
        },
        "slack_alerts": {
            "conn_type": "slackwebhook",
            "host": f"{partners_url}/slack/services",
            "password": "T000/B000/XXXX",
        },
    }
