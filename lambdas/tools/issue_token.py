"""`python -m lambdas.tools.issue_token --subject NAME [--ttl 1h]`: print a token for the orders API."""

from __future__ import annotations

import argparse
import re
import sys
import time

import jwt
from botocore.exceptions import BotoCoreError

from lambdas.authorizer.signing_keys import KeysUnavailableError, SigningKeys, secrets_client
from lambdas.authorizer.verification import ALGORITHM, MAX_SUBJECT_CHARACTERS, is_subject
from lambdas.tools.tables import parser_of

DEFAULT_SECRET_ID = "orders-api/jwt"  # noqa: S105 - a name
DEFAULT_AUDIENCE = "orders-api"
MAX_TTL_SECONDS = 30 * 86_400
"""A token cannot be taken back except by rotating the secret twice, which ends all others too."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

PROGRAM = "python -m lambdas.tools.issue_token"


def issue(key: str, *, subject: str, ttl_seconds: int, audience: str, issuer: str, now: int) -> str:
    """A token, signed with the secret's text, from ``now`` (Unix time) on; an empty audience or issuer is left out."""
    claims = {"sub": subject, "iat": now, "exp": now + ttl_seconds}
    claims |= {name: text for name, text in (("aud", audience), ("iss", issuer)) if text}
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def main(arguments: list[str] | None = None) -> int:
    """Print the token; returns the exit code: 1 when the key cannot be read. Wrong arguments exit with 2."""
    description = "Print a token for the orders API, and nothing else, on standard output."
    example, note = f"{PROGRAM} --subject test-user --ttl 1h", "The key is the current version of the secret.\n"
    parser = parser_of(PROGRAM, description, example, note)
    parser.add_argument("--subject", required=True, type=_subject, help="who the caller is (claim sub); shown in logs")
    parser.add_argument(
        "--ttl", default="1h", type=_seconds, help="validity: 30s, 15m, 1h, up to 30d (default %(default)s)"
    )
    parser.add_argument("--audience", default=DEFAULT_AUDIENCE, help="claim aud (default %(default)s; '' = none)")
    parser.add_argument("--issuer", default="", help="claim iss; needed if the stack's parameter JwtIssuer is set")
    parser.add_argument("--secret-id", default=DEFAULT_SECRET_ID, help="secret with the key (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        key, *_ = SigningKeys(secrets_client(), options.secret_id, clock=time.time).kept()
    # botocore's ValueError: AWS_ENDPOINT_URL is no address.
    except (KeysUnavailableError, BotoCoreError, ValueError) as error:
        print(f"error: cannot read the key from secret {options.secret_id}: {error}", file=sys.stderr)
        return 1
    token = issue(
        key,
        subject=options.subject,
        ttl_seconds=options.ttl,
        audience=options.audience,
        issuer=options.issuer,
        now=int(time.time()),
    )
    print(token)
    return 0


def _subject(text: str) -> str:
    if not is_subject(text):
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_SUBJECT_CHARACTERS} printable characters")
    return text


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= MAX_TTL_SECONDS:
        raise argparse.ArgumentTypeError("must be a number and s, m, h or d, such as 15m; at most 30d")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
