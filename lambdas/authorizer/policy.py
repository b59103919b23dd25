"""What the authorizer answers API Gateway."""

from __future__ import annotations

from typing import Any, Literal


def allow(method_arn: str, subject: str) -> dict[str, Any]:
    """Let the subject call the whole stage; the functions behind it are told ``sub``.

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
