"""boto3 clients of connection ``aws_default``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_ext.ids import AWS_CONNECTION, METRICS_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client


def s3_client(*, max_connections: int = 10) -> S3Client:
    """An S3 client for up to ``max_connections`` requests at once, with bounded time-outs and retries."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    config = Config(
        max_pool_connections=max_connections,
        connect_timeout=10,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    hook = AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type="s3", config=config)
    return cast("S3Client", hook.get_conn())


def publish_metrics(values: Mapping[str, float], *, environment: str, pipeline: str) -> None:
    """Publish counts to CloudWatch, namespace ``Pipelines``, dimensions ``Environment`` and ``Pipeline``.

    :raises botocore.exceptions.ClientError: CloudWatch refused.
    :raises botocore.exceptions.BotoCoreError: CloudWatch could not be reached.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    dimensions = [
        {"Name": "Environment", "Value": environment},
        {"Name": "Pipeline", "Value": pipeline},
    ]
    AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type="cloudwatch").get_conn().put_metric_data(
        Namespace=METRICS_NAMESPACE,
        MetricData=[
            {"MetricName": name, "Value": value, "Unit": "Count", "Dimensions": dimensions}
            for name, value in values.items()
        ],
    )
