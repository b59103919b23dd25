"""`python -m local.compose.deploy`: deploy the template to the emulator, and put in place what a person would.

The same steps as the local stack's; only `dex_db` is SQL Server. The emulator keeps nothing: with `--stay`, this
deploys again whenever it was restarted. Prints the names and addresses of what was created as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.compose.seed import DATABASE, PORT, READER, required
from local.processes.layout import (
    DEFAULT_STATE_DIRECTORY,
    PROJECT_ROOT,
    REGION,
    Layout,
    StackSecrets,
    write_private_json,
)
from local.processes.supervisor import Command, StackError
from local.services.emulator import (
    TEMPLATE_PARAMETERS,
    aws_client,
    build_command,
    deploy_command,
    finish_deployment,
    stack_outputs,
)

SECRETS = ("DEX_CLIENT_SECRET", "CALL_DETAILS_ACCESS_KEY", "CALL_DETAILS_SECRET_KEY", "SQL_READER_PASSWORD")

_LOOK_SECONDS = 5.0


def client_database(server: str, password: str) -> dict[str, Any]:
    """The connection `dex_db` in Airflow's JSON form: docs/CONFIGURATION.md says what it must be."""
    return {
        "conn_type": "mssql",
        "host": server,
        "port": PORT,
        "schema": DATABASE,
        "login": READER,
        "password": password,
        "extra": {"encryption": "require", "tds_version": "7.4"},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Build, deploy and finish; returns 0 done, 1 failed, and with `--stay` only when it cannot deploy."""
    parser = argparse.ArgumentParser(prog="python -m local.compose.deploy", description=__doc__)
    parser.add_argument("--build-dir", type=Path, required=True, help="the built functions: made if they are not there")
    parser.add_argument("--build-only", action="store_true", help="fill --build-dir, and end: the image does this")
    parser.add_argument("--endpoint-url", help="the emulator, as the services see it")
    parser.add_argument("--public-endpoint-url", help="the emulator, as people see it (default: the same)")
    parser.add_argument("--partners-url", help="the partner stubs, as the services see them")
    parser.add_argument("--sql-server", help="host name of the SQL Server, as the services see it")
    parser.add_argument("--airflow-url", help="Airflow, as the services see it: for 'python -m ops' in this container")
    parser.add_argument("--stay", action="store_true", help="deploy again whenever the emulator has lost everything")
    parser.add_argument(
        "--state-directory",
        type=Path,
        default=DEFAULT_STATE_DIRECTORY,
        help="holds stack.json as long as --stay finds the stack: the container is healthy then (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    try:
        if not (options.build_dir / "template.yaml").exists():
            _run(build_command(options.build_dir))
        if options.build_only:
            return 0
        secrets = required(parser, *SECRETS)
        _deploy(options, *secrets)
        while options.stay:
            time.sleep(_LOOK_SECONDS)
            there = has_stack(options.endpoint_url)
            if not there:
                Layout(options.state_directory).stack_file.unlink(missing_ok=True)
            if there is False:
                _deploy(options, *secrets)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def has_stack(endpoint_url: str) -> bool | None:
    """Whether the emulator holds the stack; None if it does not answer."""
    try:
        stack_outputs(aws_client("cloudformation", endpoint_url))
    except ClientError:
        return False
    except BotoCoreError:
        return None
    return True


def _deploy(options: argparse.Namespace, dex_secret: str, access_key: str, secret_key: str, sql_password: str) -> None:
    """Deploy what was built, print what came of it, and leave it where `python -m ops` looks."""
    parameters = {"DexApiBaseUrl": options.partners_url, **TEMPLATE_PARAMETERS}
    _run(deploy_command(options.endpoint_url, options.build_dir, **parameters))
    deployment = finish_deployment(
        options.endpoint_url,
        partners_url=options.partners_url,
        client_database=client_database(options.sql_server, sql_password),
        stack_secrets=StackSecrets(
            dex_client_secret=dex_secret, call_details_access_key=access_key, call_details_secret_key=secret_key
        ),
    )
    print(
        json.dumps(deployment, indent=2).replace(
            options.endpoint_url, options.public_endpoint_url or options.endpoint_url
        ),
        flush=True,
    )
    if options.stay:
        addresses = {
            "airflow_url": options.airflow_url,
            "airflow_token_url": f"{options.airflow_url}/auth/token",
            "aws_endpoint_url": options.endpoint_url,
            "partners_url": options.partners_url,
            "region": REGION,
        }
        write_private_json(Layout(options.state_directory).stack_file, deployment | addresses)


def _run(command: Command) -> None:
    """Run a command to its end with its output in ours, which the JSON at the end shares with no one."""
    arguments = [str(argument) for argument in command.arguments]
    ended = subprocess.run(arguments, cwd=PROJECT_ROOT, env=dict(command.environment), stdout=sys.stderr, check=False)
    if ended.returncode != 0:
        raise StackError(f"'{command.name}' failed with exit code {ended.returncode}: see above")


if __name__ == "__main__":
    raise SystemExit(main())
