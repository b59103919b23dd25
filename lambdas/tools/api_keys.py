"""`python -m lambdas.tools.api_keys create|list|revoke`: the keys of the events API."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lambdas.common.aws import CONDITION_FAILED, error_code, timestamp
from lambdas.events_api.api_keys import MAX_AGE_SECONDS, KeyHash, id_of, is_key, new_key
from lambdas.tools.tables import (
    ToolError,
    add_table_options,
    carried_out,
    dynamodb_client,
    owner,
    parser_of,
    print_text,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

PROGRAM = "python -m lambdas.tools.api_keys"
TABLE_PREFIX = "api-keys"
MAX_LABEL_CHARACTERS = 200

_KEY_ID = re.compile(r"[A-Za-z0-9]{8}")


class KeyTable:
    """The table of keys, as the command writes it."""

    def __init__(self, dynamodb: DynamoDBClient, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def create(self, owner: str, label: str | None, now: str) -> str:
        """A new key of an owner. It can be shown now and never again."""
        while True:
            key = new_key()
            kept = KeyHash.of(key)
            texts = {"key_id": id_of(key), "owner": owner, "salt": kept.salt, "hash": kept.hash, "created_at": now}
            texts |= {"label": label} if label else {}
            item: dict[str, AttributeValueTypeDef] = {name: {"S": text} for name, text in texts.items()}
            item["iterations"] = {"N": str(kept.iterations)}
            try:
                self._dynamodb.put_item(
                    TableName=self._name, Item=item, ConditionExpression="attribute_not_exists(key_id)"
                )
            except ClientError as error:
                if error_code(error) != CONDITION_FAILED:
                    raise
            else:
                return key

    def all(self) -> Iterator[Mapping[str, str]]:
        """The texts of every key that was ever created."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._name,
            ProjectionExpression="key_id, #owner, created_at, revoked_at, #label",
            # Some words are DynamoDB's own.
            ExpressionAttributeNames={"#owner": "owner", "#label": "label"},
        )
        for page in pages:
            for item in page["Items"]:
                yield {name: value["S"] for name, value in item.items()}

    def revoke(self, key_id: str, now: str) -> None:
        """Take a key back; it keeps the time of the first time. Raises ToolError if there is no such key."""
        try:
            self._dynamodb.update_item(
                TableName=self._name,
                Key={"key_id": {"S": key_id}},
                UpdateExpression="SET revoked_at = if_not_exists(revoked_at, :now)",
                ConditionExpression="attribute_exists(key_id)",
                ExpressionAttributeValues={":now": {"S": now}},
            )
        except ClientError as error:
            if error_code(error) != CONDITION_FAILED:
                raise
            raise ToolError(f"there is no key {key_id} in table {self._name}: `{PROGRAM} list` shows them") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code: 1 when it could not be done. Wrong arguments exit with 2."""
    options = _parser().parse_args(arguments)
    return carried_out(partial(_carry_out, options), options.table)


def _carry_out(options: argparse.Namespace) -> None:
    table, now = KeyTable(dynamodb_client(), options.table), timestamp(datetime.now(UTC))
    if options.command == "create":
        key = table.create(options.owner, options.label, now)
        print(f"key {id_of(key)} of {options.owner}, shown this once:", file=sys.stderr)
        print(key)
    elif options.command == "list":
        print_text(_listed(key for key in table.all() if options.owner in (None, key["owner"])))
    else:
        table.revoke(options.key_id, now)
        print(f"revoked: {options.key_id}; it is refused within {MAX_AGE_SECONDS:.0f} seconds")


def _listed(keys: Iterable[Mapping[str, str]]) -> str:
    row = "{:8}  {:24}  {:24}  {:24}  {}"
    lines = [row.format("KEY", "OWNER", "CREATED", "REVOKED", "LABEL")]
    for key in sorted(keys, key=lambda key: (key["owner"], key["created_at"])):
        columns = (key.get(name, "") for name in ("key_id", "owner", "created_at", "revoked_at", "label"))
        lines.append(row.format(*columns))
    return "\n".join(line.rstrip() for line in lines)


def _parser() -> argparse.ArgumentParser:
    example = f"{PROGRAM} create --owner test-user --environment local"
    parser = parser_of(PROGRAM, "Create, list and revoke keys of the events API.", example)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create a key and print it, once, alone on standard output")
    create.add_argument("--owner", required=True, type=owner, help="whose events it gives access to; shown in logs")
    create.add_argument("--label", type=_label, help="a note of what the key is for")
    shown = commands.add_parser("list", help="list the keys, without what is secret")
    shown.add_argument("--owner", type=owner, help="only the keys of this owner")
    revoke = commands.add_parser("revoke", help="revoke a key for good")
    revoke.add_argument("key_id", type=_key_id, help="the first 8 characters of the key after sk_")
    for command in (create, shown, revoke):
        add_table_options(command, TABLE_PREFIX)
    return parser


def _key_id(text: str) -> str:
    # A key that somebody pastes here, with something around it or not as a whole, is not to stand in a message.
    text = text.strip()
    key_id = id_of(text) if is_key(text) else text
    if not _KEY_ID.fullmatch(key_id):
        raise argparse.ArgumentTypeError("must be the first 8 characters of the key after sk_, or the key")
    return key_id


def _label(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= MAX_LABEL_CHARACTERS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_LABEL_CHARACTERS} printable characters")
    return text


if __name__ == "__main__":
    sys.exit(main())
