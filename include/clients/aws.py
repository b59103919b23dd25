"""Typed errors for calls of DynamoDB, SQS and SSM (S3 has its own: :mod:`include.clients.s3`).

SSM Parameter Store: several parameters in one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from include.errors import AwsRefusedError, AwsUnavailableError

_TRANSIENT_CODES = frozenset(
    {
        # DynamoDB answers most of these with status 400.
        "LimitExceededException",
        "OverLimit",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "Throttling",
        "ThrottlingException",
        "TooManyUpdates",
        "TransactionConflictException",
    }
)


def aws_error_code(error: ClientError) -> str:
    """The error code of a failed call, such as ``ThrottlingException``, without SQS's namespace."""
    return str(error.response.get("Error", {}).get("Code", "")).rpartition(".")[2]


@contextmanager
def aws_errors(service: str, what: str) -> Iterator[None]:
    """Translate botocore's errors inside the block.

    Args:
        service: who answers, such as ``DynamoDB``.
        what: names the action in the message, such as ``write to table ingest-ledger-dev``.

    Raises:
        AwsUnavailableError: connection errors, throttling, 5xx.
        AwsRefusedError: any other refusal.
    """
    try:
        yield
    except ClientError as error:
        code = aws_error_code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        message = f"cannot {what}: {service} answered {code or status}"
        if code in _TRANSIENT_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise AwsUnavailableError(message) from error
        raise AwsRefusedError(f"{message}; check the name in settings and the role's permissions") from error
    except (ParamValidationError, NoCredentialsError) as error:
        raise AwsRefusedError(
            f"cannot {what}: {type(error).__name__}; check the name in settings and the credentials"
        ) from error
    except BotoCoreError as error:
        raise AwsUnavailableError(f"cannot {what}: {type(error).__name__}") from error


def get_parameters(ssm: Any, *names: str) -> tuple[str, ...]:
    """Values of parameters, decrypted, in the order of ``names``.

    Args:
        ssm: a boto3 client.
        names: at most 10 (GetParameters takes no more).

    Raises:
        AwsUnavailableError: a retry may work.
        AwsRefusedError: a parameter does not exist or is empty, or SSM refused.
    """
    with aws_errors("SSM", f"read parameters {', '.join(names)}"):
        answer = ssm.get_parameters(Names=list(dict.fromkeys(names)), WithDecryption=True)
    values = {found["Name"]: found["Value"] for found in answer["Parameters"]}
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise AwsRefusedError(f"SSM parameter {', '.join(missing)} does not exist; put it as a SecureString")
    return tuple(values[name] for name in names)
