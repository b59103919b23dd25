"""The order in which a stack comes up: what can start at once does, what depends on something waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace

import httpx

from local import airflow_services, aws, broker, celery_workers, postgres
from local.airflow_options import Executor, Places, airflow_environment
from local.deployment import ALERTS_QUEUE, TEMPLATE_PARAMETERS, Deployment, finish_deployment
from local.environment import (
    ENVIRONMENT_NAME,
    REGION,
    SETTINGS_VARIABLE,
    StackSecrets,
    clean_environment,
    shell_exports,
)
from local.layout import PROJECT_ROOT, PYTHON, write_private
from local.ports import LOOPBACK
from local.processes import Command, StackError
from local.stack import Stack
from local.supervisor import Supervisor

_POLL_SECONDS = 0.1
_SERVICE_SECONDS = 60.0
_READY_SECONDS = 180.0


async def assemble(
    supervisor: Supervisor, ports: dict[str, int], executor: Executor, airflow_options: Mapping[str, str]
) -> Stack:
    """Start every service, deploy, and wait until all is ready; stack.json exists when this returns.

    `airflow_options` come last and win over the stack's own: see `StackOptions`.

    Raises:
        StackError: a step failed or did not end in time.
    """
    layout = supervisor.layout
    urls = {service: f"http://{LOOPBACK}:{port}" for service, port in ports.items()}
    stack_secrets = StackSecrets()

    def process_ids() -> dict[str, int]:
        return {name: process.service_pid for name, process in supervisor.processes.items()}

    def republish() -> None:
        if layout.stack_file.exists():
            replace(Stack.read(layout.root), pids=process_ids()).write(layout)

    async def database_and_airflow() -> None:
        async with supervisor.step("postgres"):
            base = clean_environment()
            server = await postgres.prepare()
            await supervisor.start(server.server_command(base))
            await _until(server.is_ready, "postgres")
        redis = await _redis(supervisor) if executor == "CeleryExecutor" else None
        places = Places(
            project=PROJECT_ROOT,
            airflow_url=urls["airflow"],
            execution_url=f"{urls['airflow']}/execution/",
            aws_endpoint_url=urls["aws"],
            database_url=server.url,
            async_database_url=server.async_url,
            broker_url=redis.url if redis else None,
        )
        environment = airflow_environment(layout.airflow_home, places, stack_secrets) | dict(airflow_options)
        write_private(layout.environment_file, shell_exports(environment))
        await supervisor.start(airflow_services.api_server_command(environment, host=LOOPBACK, port=ports["airflow"]))
        async with supervisor.step("database migration"):
            await supervisor.execute(airflow_services.migrate_command(environment))
        for command in airflow_services.background_commands(environment):
            await supervisor.start(command)
        if redis:
            for command in celery_workers.worker_commands(environment):
                await supervisor.keep(command, replaced=republish)
            async with supervisor.step("Celery workers"):
                await celery_workers.wait_for_workers(redis.url, timeout=_READY_SECONDS)

    async def emulator() -> None:
        async with supervisor.step("AWS emulator"):
            await supervisor.start(aws.emulator_command(ports["aws"], layout.root / "emulator"))
            await _until(lambda: _answers(f"{urls['aws']}/_ministack/health"), "emulator")

    async def functions() -> None:
        async with supervisor.step("functions"):
            await supervisor.execute(aws.build_command(layout.build))

    async def emulator_and_deployment() -> Deployment:
        async with asyncio.TaskGroup() as before:
            before.create_task(emulator())
            before.create_task(functions())
        async with supervisor.step("deployment"):
            await supervisor.execute(
                aws.deploy_command(urls["aws"], layout.build, DexApiBaseUrl=urls["partners"], **TEMPLATE_PARAMETERS)
            )
            return await asyncio.to_thread(
                finish_deployment,
                urls["aws"],
                partners_url=urls["partners"],
                client_database={"conn_type": "sqlite", "host": str(layout.client_database)},
                stack_secrets=stack_secrets,
            )

    async def partners() -> None:
        async with supervisor.step("partner stubs and sample clients"):
            await supervisor.start(_partners_command(ports["partners"], stack_secrets))
            await supervisor.execute(
                Command("sample", [PYTHON, "-m", "local.sample", layout.client_database], clean_environment())
            )
            await _until(lambda: _answers(f"{urls['partners']}/health"), "partners")

    async with asyncio.TaskGroup() as group:
        group.create_task(database_and_airflow())
        deployment_task = group.create_task(emulator_and_deployment())
        group.create_task(partners())
        # Airflow reads secrets when tasks run, not when it starts: it need not wait for the deployment.
        await _wait_for_airflow(supervisor, urls["airflow"])

    deployment = deployment_task.result()
    stack = Stack(
        airflow_url=urls["airflow"],
        airflow_token_url=f"{urls['airflow']}/auth/token",
        aws_endpoint_url=urls["aws"],
        region=REGION,
        partners_url=urls["partners"],
        environment=ENVIRONMENT_NAME,
        **asdict(deployment),
        alerts_queue_name=ALERTS_QUEUE,
        client_database=str(layout.client_database),
        settings_variable=SETTINGS_VARIABLE,
        pids=process_ids(),
        logs=str(layout.logs),
        env_file=str(layout.environment_file),
    )
    stack.write(layout)
    return stack


async def _wait_for_airflow(supervisor: Supervisor, url: str) -> None:
    try:
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(base_url=url, timeout=10) as client:
            async with supervisor.step("Airflow services"):
                await airflow_services.wait_for_components(client)
            async with supervisor.step("DAGs"):
                await airflow_services.wait_for_dags(client, airflow_services.expected_dags())
    except TimeoutError:
        raise StackError(
            f"Airflow was not ready after {_READY_SECONDS:.0f} s: see the logs in {supervisor.layout.logs}"
        ) from None


async def _redis(supervisor: Supervisor) -> broker.Broker:
    async with supervisor.step("redis"):
        redis = broker.prepare()
        await supervisor.start(redis.server_command(clean_environment()))
        await _until(redis.is_ready, "redis")
    return redis


def _partners_command(port: int, stack_secrets: StackSecrets) -> Command:
    return Command(
        name="partners",
        arguments=[
            PYTHON, "-m", "uvicorn", "local.partners.app:app",
            "--host", LOOPBACK, "--port", str(port), "--log-level", "warning", "--no-access-log",
            # Longer than clients keep a connection: one that closes as it is used again is a fault nobody asked for.
            "--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "2",
        ],
        environment={
            **clean_environment(),
            "DEX_CLIENT_ID": stack_secrets.dex_client_id,
            "DEX_CLIENT_SECRET": stack_secrets.dex_client_secret,
            "CALL_DETAILS_ACCESS_KEY": stack_secrets.call_details_access_key,
            "CALL_DETAILS_SECRET_KEY": stack_secrets.call_details_secret_key,
        },
        grace=3,
    )  # fmt: skip


async def _answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200; False while nothing listens yet."""
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


async def _until(condition: Callable[[], Awaitable[bool]], service: str) -> None:
    """Wait until `condition` holds."""
    try:
        async with asyncio.timeout(_SERVICE_SECONDS):
            while not await condition():
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise StackError(f"service '{service}' was not ready after {_SERVICE_SECONDS:.0f} s: see its log") from None
