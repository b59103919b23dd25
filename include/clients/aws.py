"""AWS calls: one reading and one translation of botocore's errors, and parameters of SSM."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from include.errors import AwsRefusedError, AwsUnavailableError, PermanentError, TransientError

_BUSY_CODES = frozenset(
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
        # S3: these have several statuses, 400 among them, and within a body status 200.
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
    }
)
_TRANSIENT_CODES = _BUSY_CODES | {
    # Lost races, and a clock that is wrong.
    "ConditionalRequestConflict",
    "OperationAborted",
    "PreconditionFailed",
    "RequestTimeTooSkewed",
    "TransactionConflictException",
}
_BUSY_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_TRANSIENT_STATUSES = _BUSY_STATUSES | {
    # Lost races: S3's conditional writes, and a Lambda function that is being updated.
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
}


def error_code(error: ClientError) -> str:
    """The code of a failed call, such as ``ThrottlingException``, without SQS's namespace.

    Where there is no body, as after a HEAD request, S3's code is the status: ``404``.
    """
    return str(error.response.get("Error", {}).get("Code", "")).rpartition(".")[2]


class unless:  # noqa: N801 - used as contextlib.suppress is
    """Ends its block, with no error, where a call in it is refused with one of these codes."""

    def __init__(self, codes: Set[str]) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        """Nothing is done before."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ClientError) and error_code(error) in self._codes


def is_busy(error: ClientError) -> bool:
    """Whether the service only asks for patience, or failed: the same request may work a moment later."""
    return error_code(error) in _BUSY_CODES or _is_among(_BUSY_STATUSES, error)


def _is_among(statuses: Set[int], error: ClientError) -> bool:
    status = _status(error)
    return status in statuses or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def aws_errors(
    service: str,
    what: str,
    *,
    unavailable: type[TransientError] = AwsUnavailableError,
    refused: type[PermanentError] = AwsRefusedError,
    check: str = "the name in settings",
) -> Iterator[None]:
    """Translate botocore's errors inside the block.

    Args:
        service: who answers, such as ``DynamoDB``.
        what: names the action in the message, such as ``write to table ingest-ledger-dev``.
        unavailable: raised for connection errors, throttling, lost races (409, 412), 5xx.
        refused: raised for any other refusal.
        check: what to look at after a refusal, beside permissions.
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        message = f"cannot {what}: {service} answered {code or _status(error)}"
        if code in _TRANSIENT_CODES or _is_among(_TRANSIENT_STATUSES, error):
            raise unavailable(message) from error
        raise refused(f"{message}; check {check} and the role's permissions") from error
    except (ParamValidationError, NoCredentialsError) as error:
        raise refused(f"cannot {what}: {type(error).__name__}; check {check} and the credentials") from error
    except BotoCoreError as error:
        raise unavailable(f"cannot {what}: {type(error).__name__}") from error


def get_parameters(ssm: Any, *names: str) -> tuple[str, ...]:
    """Values of SSM parameters, decrypted, in the order of ``names``, read by one call.

    A line break at the end is dropped: files that secrets are put from have one. GetParameters takes up to 10 names. A
    parameter that does not exist or is empty is an AwsRefusedError.
    """
    with aws_errors("SSM", f"read parameters {', '.join(names)}"):
        answer = ssm.get_parameters(Names=list(dict.fromkeys(names)), WithDecryption=True)
    values = {found["Name"]: found["Value"].rstrip("\r\n") for found in answer["Parameters"]}
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise AwsRefusedError(f"SSM parameter {', '.join(missing)} is missing or empty; put it as a SecureString")
    return tuple(values[name] for name in names)
