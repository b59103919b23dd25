"""`python -m lambdas.tools.subscriptions put|show|off`: where an owner's events are delivered."""

from __future__ import annotations

import argparse
import base64
import getpass
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import SplitResult, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common.aws import CONDITION_FAILED, error_code, may_pass, timestamp
from lambdas.tools.tables import ToolError, add_table_options, carried_out, dynamodb_client, owner, parser_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

PROGRAM = "python -m lambdas.tools.subscriptions"
TABLE_PREFIX = "subscriptions"
SWITCHED_OFF = "switched off by hand"

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret of Standard Webhooks begins with
NEW_SECRET_BYTES = 32
MAX_URL_CHARACTERS = 2_048

_NAME = re.compile(r"[a-z0-9._-]+")
_IPV4_LIKE = re.compile(r"[0-9]+(\.[0-9]+){3}")
_SECRET_BYTES = range(24, 65)
"""As Standard Webhooks has it."""


class SubscriptionTable:
    """The table of subscriptions, one for each owner that has a webhook."""

    def __init__(self, dynamodb: DynamoDBClient, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def put(self, owner: str, url: str, secret: str | None, now: str) -> str | None:
        """Have the owner's events delivered from now on; returns the secret, if it is new.

        Without a ``secret``, deliveries are signed with the one that the owner has, or else with a new one.
        """
        made = new_secret()
        # One expression for both, or two that are called at once could each print a secret.
        kept = "#secret = if_not_exists(#secret, :secret)"
        condition: dict[str, Any] = {}
        if secret:
            # Deliveries are signed with the one before as well for a day: see include/delivery/subscriptions.py.
            kept = "previous_secret = if_not_exists(#secret, :secret), rotated_at = :now, #secret = :secret"
            condition = {"ConditionExpression": "#secret <> :secret"}
        values: dict[str, AttributeValueTypeDef] = {
            ":url": {"S": url},
            ":secret": {"S": secret or made},
            ":active": {"BOOL": True},
            ":now": {"S": now},
        }
        changed = f"SET #url = :url, {kept}, #active = :active, updated_at = :now REMOVE deactivated_reason"
        try:
            answer = self._dynamodb.update_item(
                TableName=self._name,
                Key={"owner": {"S": owner}},
                UpdateExpression=changed,
                ExpressionAttributeNames={"#url": "url", "#secret": "secret", "#active": "active"},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                **condition,
            )
        except ClientError as error:
            if not condition or error_code(error) != CONDITION_FAILED:
                raise
            # The owner has it, perhaps since this call, whose answer got lost: it must not become the one before.
            return self.put(owner, url, None, now)
        return made if answer["Attributes"]["secret"] == {"S": made} else None

    def get(self, owner: str) -> Mapping[str, Any]:
        """The owner's subscription, without its secrets; raises ToolError if there is none."""
        found = self._dynamodb.get_item(TableName=self._name, Key={"owner": {"S": owner}}, ConsistentRead=True)
        if "Item" not in found:
            raise self._none(owner)
        values = {name: next(iter(value.values())) for name, value in found["Item"].items()}
        return {name: value for name, value in values.items() if name not in ("secret", "previous_secret")}

    def switch_off(self, owner: str, now: str) -> None:
        """Have the owner's events wait in the inbox from now on; raises ToolError if there is no subscription."""
        try:
            self._dynamodb.update_item(
                TableName=self._name,
                Key={"owner": {"S": owner}},
                UpdateExpression="SET #active = :active, updated_at = :now, deactivated_reason = :reason",
                ConditionExpression="attribute_exists(#owner)",
                ExpressionAttributeNames={"#active": "active", "#owner": "owner"},
                ExpressionAttributeValues={
                    ":active": {"BOOL": False},
                    ":now": {"S": now},
                    ":reason": {"S": SWITCHED_OFF},
                },
            )
        except ClientError as error:
            if error_code(error) != CONDITION_FAILED:
                raise
            raise self._none(owner) from None

    def _none(self, owner: str) -> ToolError:
        return ToolError(f"{owner} has no subscription in table {self._name}: `{PROGRAM} put` makes one")


def new_secret() -> str:
    """A secret that nobody has yet."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def secret_from(source: TextIO) -> str:
    """The secret on standard input's first line, for which a person at a terminal is asked unseen; else ToolError."""
    text = getpass.getpass("secret: ") if source.isatty() else source.readline().strip()
    try:
        data = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        data = b""
    if not text.startswith(SECRET_PREFIX) or len(data) not in _SECRET_BYTES:
        raise ToolError(f"the secret must be {SECRET_PREFIX} and base64 of 24 to 64 bytes")
    return text


def _standard_input(text: str) -> str:
    """The argument ``--secret``: a secret among the arguments would be in the list of processes and in histories."""
    if text != "-":
        raise argparse.ArgumentTypeError("must be -, which reads the secret from standard input")
    return text


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse, by a ToolError, what could never be delivered to. The delivery itself checks the address of the name."""
    try:
        parts = urlsplit(url)
        usable = _is_host(parts) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    # urlsplit() overlooks line breaks and the like.
    if not usable or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        raise ToolError("--url must be an address such as https://example.com/hooks")
    if parts.scheme == "http" and not allow_http:
        raise ToolError("--url must begin with https:// (--allow-http is for the local stack)")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ToolError("--url must have neither a user nor a password nor a fragment")
    if len(url) > MAX_URL_CHARACTERS:
        raise ToolError(f"--url must have at most {MAX_URL_CHARACTERS} characters")


def _is_host(parts: SplitResult) -> bool:
    """Whether its host is a name or an address, in a form that the delivery takes too; an address may raise."""
    text = parts.hostname or ""
    if "[" in parts.netloc or _IPV4_LIKE.fullmatch(text):
        ip_address(text)
        return True
    return _NAME.fullmatch(text) is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code: 1 when it could not be done. Wrong arguments exit with 2."""
    options = _parser().parse_args(arguments)
    return carried_out(partial(_carry_out, options), options.table)


def _carry_out(options: argparse.Namespace) -> None:
    table, now = SubscriptionTable(dynamodb_client(), options.table), timestamp(datetime.now(UTC))
    if options.command == "put":
        check_url(options.url, allow_http=options.allow_http)
        given = secret_from(sys.stdin) if options.secret else None
        given = new_secret() if options.rotate_secret else given
        try:
            made = table.put(options.owner, options.url, given, now) or (given if options.rotate_secret else None)
        except (BotoCoreError, ClientError, KeyboardInterrupt) as error:
            # It may be the owner's by now. Rotated once more, the receiver's would not be the one before any more.
            if options.rotate_secret and (isinstance(error, KeyboardInterrupt) or may_pass(error)):
                print("the secret may be this one by now: do it again by --secret -, which reads it:", file=sys.stderr)
                print(given)
            raise
        print(f"subscribed: {options.owner}", file=sys.stderr)
        if made:
            print("deliveries are signed with this secret, shown this once:", file=sys.stderr)
            print(made)
    elif options.command == "show":
        for name, value in sorted(table.get(options.owner).items()):
            print(f"{name}: {str(value).lower() if isinstance(value, bool) else value}")
    else:
        table.switch_off(options.owner, now)
        print(f"off: {options.owner}; events wait in the inbox until `put` switches it on again")


def _parser() -> argparse.ArgumentParser:
    example = f"{PROGRAM} show --owner test-user --environment local"
    parser = parser_of(PROGRAM, "Say where an owner's events are delivered.", example)
    commands = parser.add_subparsers(dest="command", required=True)
    put = commands.add_parser("put", help="deliver to this webhook from now on; a new secret is printed, this once")
    put.add_argument("--url", required=True, help="of the webhook")
    secrets = put.add_mutually_exclusive_group()
    secrets.add_argument(
        "--secret",
        type=_standard_input,
        metavar="-",
        help=f"read it from standard input: {SECRET_PREFIX} and base64 of 24 to 64 bytes (default: the one there is, "
        "or else a new one)",
    )
    secrets.add_argument(
        "--rotate-secret",
        action="store_true",
        help="replace the secret by a new one and print it; for a day, deliveries are signed with both",
    )
    put.add_argument("--allow-http", action="store_true", help="for receivers of the local stack")
    show = commands.add_parser("show", help="show the subscription but for its secret")
    off = commands.add_parser("off", help="deliver no more; events wait in the inbox")
    for command in (put, show, off):
        command.add_argument("--owner", required=True, type=owner, help="whose events")
        add_table_options(command, TABLE_PREFIX)
    return parser


if __name__ == "__main__":
    sys.exit(main())
