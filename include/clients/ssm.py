"""SSM Parameter Store: several parameters in one call."""

from __future__ import annotations

from typing import Any

from include.clients.aws import aws_errors
from include.errors import AwsRefusedError


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
