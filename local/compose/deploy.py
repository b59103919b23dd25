"""`python -m local.compose.deploy`: deploy the template to the emulator, and put in place what a person would.

The same steps as the local stack's; only `dex_db` is SQL Server. The emulator keeps nothing: run this again
whenever it was restarted. Prints the names and addresses of what was created as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local.compose.seed import DATABASE, PORT, READER
from local.compose.variables import required
from local.processes.layout import PROJECT_ROOT, StackSecrets
from local.processes.supervisor import Command, StackError
from local.services.emulator import TEMPLATE_PARAMETERS, build_command, deploy_command, finish_deployment

SECRETS = ("DEX_CLIENT_SECRET", "CALL_DETAILS_ACCESS_KEY", "CALL_DETAILS_SECRET_KEY", "SQL_READER_PASSWORD")


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
    """Build, deploy and finish; returns 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m local.compose.deploy", description=__doc__)
    parser.add_argument("--endpoint-url", required=True, help="the emulator, as the services see it")
    parser.add_argument("--public-endpoint-url", help="the emulator, as people see it (default: the same)")
    parser.add_argument("--partners-url", required=True, help="the partner stubs, as the services see them")
    parser.add_argument("--sql-server", required=True, help="host name of the SQL Server, as the services see it")
    options = parser.parse_args(argv)
    dex_secret, access_key, secret_key, sql_password = required(parser, *SECRETS)
    try:
        with tempfile.TemporaryDirectory() as directory:
            build = Path(directory) / "build"
            _run(build_command(build))
            _run(deploy_command(options.endpoint_url, build, DexApiBaseUrl=options.partners_url, **TEMPLATE_PARAMETERS))
        deployment = finish_deployment(
            options.endpoint_url,
            partners_url=options.partners_url,
            client_database=client_database(options.sql_server, sql_password),
            stack_secrets=StackSecrets(
                dex_client_secret=dex_secret, call_details_access_key=access_key, call_details_secret_key=secret_key
            ),
        )
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = json.dumps(deployment, indent=2)
    print(text.replace(options.endpoint_url, options.public_endpoint_url or options.endpoint_url))
    return 0


def _run(command: Command) -> None:
    """Run a command to its end with its output in ours, which the JSON at the end shares with no one."""
    arguments = [str(argument) for argument in command.arguments]
    ended = subprocess.run(arguments, cwd=PROJECT_ROOT, env=dict(command.environment), stdout=sys.stderr, check=False)
    if ended.returncode != 0:
        raise StackError(f"'{command.name}' failed with exit code {ended.returncode}: see above")


if __name__ == "__main__":
    raise SystemExit(main())
