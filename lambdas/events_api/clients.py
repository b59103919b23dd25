"""Clients of the table and the queue: quick enough to give up that a caller always gets an answer of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

# botocore's, not boto3's: the same calls, and less to import during a cold start. One session reads its files once.
_session = botocore.session.get_session()


def dynamodb_client() -> DynamoDBClient:
    """Three tries of at most 2.5 seconds, and pauses of at most three between them. Every call may be repeated."""
    config = Config(connect_timeout=0.5, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3})
    return cast("DynamoDBClient", _session.create_client("dynamodb", config=config))


def sqs_client() -> SQSClient:
    """Two tries of at most 1.5 seconds: who cannot be woken within that wakes by himself later."""
    config = Config(connect_timeout=0.5, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 2})
    return cast("SQSClient", _session.create_client("sqs", config=config))
