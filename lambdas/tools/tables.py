"""What command lines have in common that write to a table of DynamoDB."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common import aws
from lambdas.events_api.api_keys import is_owner

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_EPILOG = """\
Region, address and credentials come from where every AWS tool takes them: AWS_DEFAULT_REGION, AWS_ENDPOINT_URL,
AWS_PROFILE and so on. For the local stack:

  . .local/airflow.env
  .venv/bin/{command}
"""


class ToolError(Exception):
    """The command cannot be carried out; the message says what to do."""


def dynamodb_client() -> DynamoDBClient:
    """A client for a person who waits at a terminal."""
    return cast("DynamoDBClient", aws.client("dynamodb", connect_seconds=2, read_seconds=5, attempts=3))


def parser_of(program: str, description: str, example: str, note: str = "") -> argparse.ArgumentParser:
    """A parser whose help ends with a note, where credentials come from, and an example."""
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=note + _EPILOG.format(command=example),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_table_options(parser: argparse.ArgumentParser, prefix: str) -> None:
    """``--environment`` and ``--table``, one of which names the table; the prefix comes before ``-<environment>``."""
    environment = os.environ.get("ENVIRONMENT")
    which = parser.add_mutually_exclusive_group(required=environment is None)
    which.add_argument(
        "--environment",
        dest="table",
        type=lambda name: f"{prefix}-{name}",
        # argparse makes of a default that is a text what it makes of an argument.
        default=environment,
        metavar="ENV",
        help=f"dev, staging, prod or local: the table {prefix}-ENV (default: the variable ENVIRONMENT)",
    )
    which.add_argument("--table", dest="table", default=argparse.SUPPRESS, help="the table by its whole name")


def owner(text: str) -> str:
    """The argument ``--owner``."""
    if not is_owner(text):
        raise argparse.ArgumentTypeError("must be 1 to 100 characters of A-Z a-z 0-9 . _ @ -, beginning with the first")
    return text


def carried_out(work: Callable[[], None], table: str) -> int:
    """Do something with a table; returns the exit code: 1 if it could not be done, and it says why; 130 for Ctrl-C."""
    try:
        work()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except ToolError as error:
        wrong = str(error)
    except ClientError as error:
        code = aws.error_code(error)
        advice = {
            "ResourceNotFoundException": "there is no such table here: check --environment and AWS_DEFAULT_REGION",
            "AccessDeniedException": "these credentials may not: check AWS_PROFILE",
        }.get(code, "see that AWS works for these credentials")
        wrong = f"table {table}: {code}; {advice}"
    # botocore's ValueError: AWS_ENDPOINT_URL is no address.
    except (BotoCoreError, ValueError) as error:
        wrong = f"table {table}: {error}"
    else:
        return 0
    print(f"error: {wrong}", file=sys.stderr)
    return 1


def print_text(text: str) -> None:
    """Print what has names in any language, on a terminal of any encoding, to somebody who may not read all of it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # As after `head`. Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
