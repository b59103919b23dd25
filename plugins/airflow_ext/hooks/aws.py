"""boto3 clients of connection ``aws_default``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_ext.ids import AWS_CONNECTION, METRICS_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.config import Config
    from mypy_boto3_s3 import S3Client


def s3_client(*, max_connections: int = 10) -> S3Client:
    """An S3 client for up to ``max_connections`` requests at once, with bounded time-outs and retries."""
    from botocore.config import Config

    config = Config(
        max_pool_connections=max_connections,
        connect_timeout=10,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    return cast("S3Client", _client("s3", config))


def _client(service: str, config: Config) -> Any:
    """As ``AwsBaseHook.get_conn`` does, less its user agent: to name the caller there it reads the source of
    every frame of the stack, which takes longer (0.15 s) than the call that the client is for.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook = AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type=service)
    endpoint = hook.conn_config.get_service_endpoint_url(service)
    session: Any = hook.get_session()
    return session.client(service, endpoint_url=endpoint, config=config, verify=hook.verify)


def publish_metrics(values: Mapping[str, float], *, environment: str, pipeline: str) -> None:
    """Publish counts to CloudWatch, namespace ``Pipelines``, dimensions ``Environment`` and ``Pipeline``.

    Raises:
        botocore.exceptions.ClientError: CloudWatch refused.
        botocore.exceptions.BotoCoreError: CloudWatch could not be reached.
    """
    from botocore.config import Config

    dimensions = [
        {"Name": "Environment", "Value": environment},
        {"Name": "Pipeline", "Value": pipeline},
    ]
    _client("cloudwatch", Config(connect_timeout=10, read_timeout=10)).put_metric_data(
        Namespace=METRICS_NAMESPACE,
        MetricData=[
            {"MetricName": name, "Value": value, "Unit": "Count", "Dimensions": dimensions}
            for name, value in values.items()
        ],
    )
