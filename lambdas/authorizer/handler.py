"""`orders-api-authorizer`: who may call the orders API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from aws_lambda_powertools import Logger

from lambdas.authorizer.signing_keys import (
    DeniedError,
    KeysUnavailableError,
    MissingTokenError,
    SigningKeys,
    secrets_client,
)
from lambdas.authorizer.verification import TokenVerifier, token_of
from lambdas.common import environment

logger = Logger()

# Made while the function starts: there is more CPU then, and a warm call has the keys.
verifier = TokenVerifier(
    SigningKeys(
        secrets_client(),
        environment.text("JWT_SECRET_ID"),
        clock=time.time,
        report=lambda reason: logger.error("keys not read, the known ones serve on", reason=reason),
    ),
    audience=environment.text("JWT_AUDIENCE", default="") or None,
    issuer=environment.text("JWT_ISSUER", default="") or None,
)


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says: it holds the token.
@logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one request of API Gateway with a policy.

    Raises:
        Exception: ``Unauthorized``, when there is no token: API Gateway makes a 401 of exactly this message.
        KeysUnavailableError: the token cannot be checked; API Gateway answers 500 and remembers nothing.
    """
    gateway: Mapping[str, Any] = event.get("requestContext") or {}
    logger.append_keys(request_id=gateway.get("requestId"))
    method_arn: str = event["methodArn"]
    try:
        subject = verifier.subject(token_of(event))
    except MissingTokenError:
        logger.info("no token")
        raise Exception("Unauthorized") from None  # noqa: TRY002 - the message is the protocol
    except DeniedError as error:
        logger.info("denied", reason=str(error))
        return deny(method_arn)
    except KeysUnavailableError as error:
        logger.error("keys unavailable", reason=str(error))
        raise
    logger.info("allowed", subject=subject)
    return allow(method_arn, subject)


def allow(method_arn: str, subject: str) -> dict[str, Any]:
    """Let the subject call the whole stage; the functions behind it get ``sub``.

    API Gateway keeps the policy for the token and holds it against later requests, on any path: one that named only
    the path of this request would refuse the next.
    """
    return {**_answer("Allow", method_arn, principal=subject), "context": {"sub": subject}}


def deny(method_arn: str) -> dict[str, Any]:
    """Refuse; the same for every reason."""
    return _answer("Deny", method_arn, principal="anonymous")


def _answer(effect: Literal["Allow", "Deny"], method_arn: str, *, principal: str) -> dict[str, Any]:
    # arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>
    api, stage, _ = method_arn.split("/", 2)
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{api}/{stage}/*"}
    return {"principalId": principal, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
