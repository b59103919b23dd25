"""Airflow outside AWS: its services, migration, readiness and configuration, here and in docker-compose.yaml."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from local.processes.layout import (
    DUMMY_AWS_KEY,
    PROJECT_ROOT,
    PYTHON,
    REGION,
    StackSecrets,
    aws_environment,
    clean_environment,
)
from local.processes.supervisor import Command, StackError

_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_POLL_SECONDS = 0.25
QUIET = "airflow.providers.amazon.aws.utils.connection_wrapper=WARNING airflow.task.hooks=WARNING"
"""Levels of other people's loggers."""


def migrate_command(environment: Mapping[str, str]) -> Command:
    """Create Airflow's tables."""
    return Command("migrate", [PYTHON, "-m", "airflow", "db", "migrate"], environment)


def api_server_command(environment: Mapping[str, str], *, host: str, port: int) -> Command:
    """The api-server: UI, public API, and the API that tasks talk to."""
    return _service("api-server", ["--host", host, "--port", str(port)], environment)


def background_commands(environment: Mapping[str, str]) -> list[Command]:
    """Scheduler, DAG processor and triggerer; they need the tables.

    The log servers that scheduler and triggerer would open listen on all interfaces and are not needed where
    all services read the same files: they stay off.
    """
    return [
        _service("scheduler", ["--skip-serve-logs"], environment),
        _service("dag-processor", [], environment),
        _service("triggerer", ["--skip-serve-logs"], environment),
    ]


def _service(name: str, options: list[str], environment: Mapping[str, str]) -> Command:
    # A short grace: a scheduler that is stopped waits for its running tasks, and here nobody wants to.
    named = {**environment, "PGAPPNAME": name}  # whose a session of the database is, in pg_stat_activity
    return Command(name, [PYTHON, "-m", "airflow", name, *options], named, grace=3.0)


async def wait_for_components(client: httpx.AsyncClient) -> None:
    """Wait until database, scheduler, triggerer and DAG processor report themselves healthy."""
    while True:
        try:
            health = (await client.get("/api/v2/monitor/health")).json()
            if all((health.get(name) or {}).get("status") == "healthy" for name in _COMPONENTS):
                return
        except (httpx.HTTPError, ValueError):
            pass  # not listening yet: the watch on the process tells if it died
        await asyncio.sleep(_POLL_SECONDS)


async def wait_for_dags(client: httpx.AsyncClient) -> None:
    """Wait until the DAG of every file is known; its id is the file's name.

    Raises:
        StackError: a file of dags/ cannot be imported; the message holds Airflow's stack trace.
    """
    expected = {path.stem for path in (PROJECT_ROOT / "dags").glob("*.py")}
    token = (await client.get("/auth/token")).raise_for_status().json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    while True:
        errors = (await client.get("/api/v2/importErrors")).raise_for_status().json()["import_errors"]
        if errors:
            details = "\n".join(f"{item['filename']}:\n{item['stack_trace']}" for item in errors)
            raise StackError(f"{len(errors)} file(s) of dags/ cannot be imported: correct them\n{details}")
        listed = (await client.get("/api/v2/dags", params={"limit": 100})).raise_for_status().json()["dags"]
        if expected <= {dag["dag_id"] for dag in listed}:
            return
        await asyncio.sleep(_POLL_SECONDS)


Executor = Literal["LocalExecutor", "CeleryExecutor"]
EXECUTORS: tuple[Executor, ...] = get_args(Executor)
DEFAULT_EXECUTOR: Executor = "LocalExecutor"


ALERT_TOPIC_ARN = f"arn:aws:sns:{REGION}:000000000000:pipelines-alerts-local"
"""What the application template makes of it on the emulator."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where Airflow finds what it needs.

    Attributes:
        project: folder that has `dags/` and `plugins/`.
        airflow_url: address of Airflow's UI and API, as people see it.
        execution_url: address of the API that tasks talk to.
        aws_endpoint_url: address of the emulator.
        database_url: SQLAlchemy URL of Airflow's database for the synchronous driver.
        async_database_url: the same for the asynchronous driver.
        broker_url: Celery's broker; None for the LocalExecutor.
    """

    project: Path
    airflow_url: str
    execution_url: str
    aws_endpoint_url: str
    database_url: str
    async_database_url: str
    broker_url: str | None = None


def airflow_variables(places: Places, stack_secrets: StackSecrets) -> dict[str, str]:
    """What every Airflow service must be told: its options, and where AWS is. No airflow.cfg is edited.

    The executor is Celery's if `places` names a broker.
    """
    options = _common_options(places, stack_secrets)
    if places.broker_url is not None:
        options |= _celery_options(places.broker_url, places.database_url)
    return {
        **aws_environment(places.aws_endpoint_url),
        **{f"AIRFLOW__{name}": value for name, value in options.items()},
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(_aws_default(places.aws_endpoint_url)),
        "PYTHONPATH": str(places.project),
    }


def airflow_environment(airflow_home: Path, places: Places, stack_secrets: StackSecrets) -> dict[str, str]:
    """The complete environment of Airflow's services on this machine."""
    return {
        **clean_environment(),
        **airflow_variables(places, stack_secrets),
        "AIRFLOW_HOME": str(airflow_home),
    }


def _common_options(places: Places, stack_secrets: StackSecrets) -> dict[str, str]:
    return {
        "CORE__DAGS_FOLDER": str(places.project / "dags"),
        "CORE__PLUGINS_FOLDER": str(places.project / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        # A worker that loads its plugins as it starts imports for all its tasks: see
        # plugins/pipelines_plugin.py.
        "CORE__LAZY_LOAD_PLUGINS": "False",
        # Reads of Variables and connections share what their clients are made of.
        "AWS__SESSION_FACTORY": "airflow_ext.hooks.aws.SharedSessionFactory",
        # Airflow's supervisor holds a task's slot for up to this long after the task has ended (default: 5 s).
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A task whose worker or scheduler is lost is tried again within the auction's five minutes (defaults: 300 s).
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__EXECUTION_API_SERVER_URL": places.execution_url,
        # The default asks DNS for the machine's full name, which may take seconds without a network.
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__FERNET_KEY": stack_secrets.fernet_key,
        # An edited DAG shows up within seconds, as a file that has changed is parsed at the next look.
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "DATABASE__SQL_ALCHEMY_CONN": places.database_url,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": places.async_database_url,
        # The stack migrates the database itself, while the api-server already builds its routes.
        "DATABASE__CHECK_MIGRATIONS": "False",
        "API__BASE_URL": places.airflow_url,
        "API__SECRET_KEY": stack_secrets.session_key,
        "API_AUTH__JWT_SECRET": stack_secrets.jwt_secret,
        "SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
        "SECRETS__BACKEND_KWARGS": json.dumps(secrets_backend(places.aws_endpoint_url)),
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        # Which credentials and statements each hook uses would be half of every log.
        "LOGGING__NAMESPACE_LEVELS": QUIET,
        # Ours: short delays, so that a retry can be watched.
        "PIPELINES__RETRY_BASE_SECONDS": "1",
        "PIPELINES__ALERT_TOPIC_ARN": ALERT_TOPIC_ARN,
    }


def _celery_options(broker_url: str, database_url: str) -> dict[str, str]:
    """What MWAA sets too; its broker is SQS instead of Redis."""
    return {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CELERY__BROKER_URL": broker_url,
        "CELERY__RESULT_BACKEND": f"db+{database_url}",
        # All workers together have the slots of CORE__PARALLELISM.
        "CELERY__WORKER_CONCURRENCY": "4",
        # A worker takes no more than it can run, and a message goes when its task has ended: a worker that is
        # lost keeps nothing.
        "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "CELERY__TASK_ACKS_LATE": "True",
        "CELERY__SYNC_PARALLELISM": "1",
        # Seconds until the broker gives out a message again that nobody has acknowledged: MWAA's 12 h.
        "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "43200",
    }


def _aws_default(endpoint_url: str) -> dict[str, Any]:
    return {
        "conn_type": "aws",
        "login": DUMMY_AWS_KEY,
        "password": DUMMY_AWS_KEY,
        "extra": {"endpoint_url": endpoint_url, "region_name": REGION},
    }


def secrets_backend(endpoint_url: str) -> dict[str, Any]:
    """Arguments of the secrets backend, as the MWAA environment has them too, and where the emulator is."""
    return {
        "connections_prefix": "airflow/connections",
        "connections_lookup_pattern": "^(?!aws_default$)",
        "variables_prefix": "airflow/variables",
        "variables_lookup_pattern": "^settings$",
        "extra_conn_words": {
            "host": ["token_url"],
            "login": ["client_id"],
            "password": ["client_secret"],
            "schema": ["dbname"],
        },
        "endpoint_url": endpoint_url,
        "region_name": REGION,
    }
