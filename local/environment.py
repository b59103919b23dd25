"""Environments of the stack's processes, built from a clean base: a developer's shell cannot change them."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.layout import PROJECT_ROOT, PYTHON, Layout

REGION = "us-east-1"
ENVIRONMENT_NAME = "local"
SETTINGS_VARIABLE = "airflow/variables/settings"
DUMMY_AWS_KEY = "test"

_DROPPED_PREFIXES = ("AWS_", "AIRFLOW", "PYTHON", "DEX_", "CALL_DETAILS_", "SAM_", "OTEL_", "PG")
_DROPPED_NAMES = frozenset({"VIRTUAL_ENV", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"})


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """Secrets of one stack, new at each start. Never logged (`repr` hides them)."""

    fernet_key: str = field(repr=False, default_factory=lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode())
    jwt_secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(48))
    session_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    dex_client_id: str = "local-archive"
    dex_client_secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))
    call_details_access_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(15))
    call_details_secret_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would change Airflow, Python, boto3 or HTTP clients.

    `PYTHONDONTWRITEBYTECODE` matters most: with it every Airflow process compiles for seconds at each start.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED_PREFIXES) and name.upper() not in _DROPPED_NAMES
    }
    kept["PATH"] = os.pathsep.join([str(PYTHON.parent), kept.get("PATH", os.defpath)])
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def aws_environment(endpoint_url: str) -> dict[str, str]:
    """Variables that point every AWS client at the emulator and away from the user's own configuration."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": DUMMY_AWS_KEY,
        "AWS_SECRET_ACCESS_KEY": DUMMY_AWS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def airflow_environment(
    layout: Layout,
    *,
    airflow_url: str,
    aws_endpoint_url: str,
    database_url: str,
    async_database_url: str,
    stack_secrets: StackSecrets,
) -> dict[str, str]:
    """All that makes the Airflow commands of this project talk to this stack; no airflow.cfg is edited."""
    aws_default = {
        "conn_type": "aws",
        "login": DUMMY_AWS_KEY,
        "password": DUMMY_AWS_KEY,
        "extra": {"endpoint_url": aws_endpoint_url, "region_name": REGION},
    }
    secrets_backend = {
        "connections_prefix": "airflow/connections",
        "connections_lookup_pattern": "^(?!aws_default$)",
        "variables_prefix": "airflow/variables",
        "variables_lookup_pattern": "^settings$",
        "extra_conn_words": {"host": ["token_url"], "login": ["client_id"], "password": ["client_secret"]},
        "endpoint_url": aws_endpoint_url,
        "region_name": REGION,
    }
    options = {
        "CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        # A worker that loads its plugins as it starts imports for all its tasks: see
        # plugins/pipelines_plugin.py.
        "CORE__LAZY_LOAD_PLUGINS": "False",
        # Airflow's supervisor holds a task's slot for up to this long after the task has ended (default: 5 s).
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__EXECUTION_API_SERVER_URL": f"{airflow_url}/execution/",
        # The default asks DNS for the machine's full name, which may take seconds without a network.
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__FERNET_KEY": stack_secrets.fernet_key,
        # An edited DAG shows up within seconds.
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "DATABASE__SQL_ALCHEMY_CONN": database_url,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": async_database_url,
        # The stack migrates the database itself, while the api-server already builds its routes.
        "DATABASE__CHECK_MIGRATIONS": "False",
        "API__BASE_URL": airflow_url,
        "API__SECRET_KEY": stack_secrets.session_key,
        "API_AUTH__JWT_SECRET": stack_secrets.jwt_secret,
        "SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
        "SECRETS__BACKEND_KWARGS": json.dumps(secrets_backend),
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        # Ours: short delays, so that a retry can be watched.
        "PIPELINES__RETRY_BASE_SECONDS": "1",
    }
    return {
        **clean_environment(),
        **aws_environment(aws_endpoint_url),
        **{f"AIRFLOW__{name}": value for name, value in options.items()},
        "AIRFLOW_HOME": str(layout.airflow_home),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws_default),
        "PYTHONPATH": str(PROJECT_ROOT),
    }


def shell_exports(environment: Mapping[str, str]) -> str:
    """The Airflow and AWS part of an environment as lines for `.` in a shell."""
    names = [name for name in sorted(environment) if name.startswith(("AIRFLOW", "AWS_")) or name == "PYTHONPATH"]
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in names]
    return "\n".join(["unset PYTHONDONTWRITEBYTECODE", *lines, ""])


def parse_shell_exports(path: Path) -> dict[str, str]:
    """Read back what `shell_exports` wrote; returns {name: value}."""
    exports = (line.removeprefix("export ") for line in path.read_text().splitlines() if line.startswith("export "))
    pairs = (line.partition("=") for line in exports)
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}
