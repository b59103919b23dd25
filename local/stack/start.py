"""The supervisor's process: one a stack, in a session of its own, started by `local.stack.control`, never by hand.

What can start at once does, what depends on something waits.

Two pipes connect it with its starter:
- standard output carries one JSON object a line: steps that began and ended, then `ready` or `failed`;
- standard input is the starter's hand on it: end of file means that the starter is gone and the stack must
  stop, unless the line `detach` came before, which lets it run on until SIGTERM (`make up`).

Airflow's services are replaced when they die, as on MWAA: their state is in PostgreSQL. PostgreSQL and the emulator are
not: their state dies with them, and the stack stops. failed.json keeps the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import httpx

from local.processes.guard import become_subreaper
from local.processes.layout import (
    ENVIRONMENT_NAME,
    LOOPBACK,
    PROJECT_ROOT,
    PYTHON,
    REGION,
    SETTINGS_VARIABLE,
    Layout,
    StackSecrets,
    clean_environment,
    shell_exports,
    write_private,
    write_private_json,
)
from local.processes.supervisor import Command, StackError, Supervisor
from local.services import airflow, celery, emulator, postgres
from local.services.airflow import EXECUTORS, Executor, Places, airflow_environment
from local.services.emulator import ALERTS_QUEUE, TEMPLATE_PARAMETERS, finish_deployment
from local.stack.description import Stack

_POLL_SECONDS = 0.1
_SERVICE_SECONDS = 180.0
_READY_SECONDS = 420.0


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
            replace(Stack.read(layout.root), pids=process_ids(), replaced=dict(supervisor.replaced)).write(layout)

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
        api_server = airflow.api_server_command(environment, host=LOOPBACK, port=ports["airflow"])
        await supervisor.keep(api_server, replaced=republish)
        async with supervisor.step("database migration"):
            await supervisor.execute(airflow.migrate_command(environment))
        for command in airflow.background_commands(environment):
            await supervisor.keep(command, replaced=republish)
        if redis:
            for command in celery.worker_commands(environment):
                await supervisor.keep(command, replaced=republish)
            async with supervisor.step("Celery workers"):
                await celery.wait_for_workers(redis.url, timeout=_READY_SECONDS)

    async def start_emulator() -> None:
        async with supervisor.step("AWS emulator"):
            await supervisor.start(emulator.emulator_command(ports["aws"], layout.root / "emulator"))
            await _until(lambda: _answers(f"{urls['aws']}/_ministack/health"), "emulator")

    async def functions() -> None:
        async with supervisor.step("functions"):
            await supervisor.execute(emulator.build_command(layout.build))

    async def emulator_and_deployment() -> dict[str, str]:
        async with asyncio.TaskGroup() as before:
            before.create_task(start_emulator())
            before.create_task(functions())
        async with supervisor.step("deployment"):
            await supervisor.execute(
                emulator.deploy_command(
                    urls["aws"], layout.build, DexApiBaseUrl=urls["partners"], **TEMPLATE_PARAMETERS
                )
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
                Command(
                    "sample",
                    [PYTHON, "-m", "local.sample.client_database", layout.client_database],
                    clean_environment(),
                )
            )
            await _until(lambda: _answers(f"{urls['partners']}/health"), "partners")

    async with asyncio.TaskGroup() as group:
        group.create_task(database_and_airflow())
        deployment_task = group.create_task(emulator_and_deployment())
        group.create_task(partners())
        # Airflow reads secrets when tasks run, not when it starts: it need not wait for the deployment.
        await _wait_for_airflow(supervisor, urls["airflow"])

    stack = Stack(
        airflow_url=urls["airflow"],
        airflow_token_url=f"{urls['airflow']}/auth/token",
        aws_endpoint_url=urls["aws"],
        region=REGION,
        partners_url=urls["partners"],
        environment=ENVIRONMENT_NAME,
        **deployment_task.result(),
        alerts_queue_name=ALERTS_QUEUE,
        client_database=str(layout.client_database),
        settings_variable=SETTINGS_VARIABLE,
        pids=process_ids(),
        replaced={},
        logs=str(layout.logs),
        env_file=str(layout.environment_file),
    )
    stack.write(layout)
    return stack


async def _wait_for_airflow(supervisor: Supervisor, url: str) -> None:
    try:
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(base_url=url, timeout=10) as client:
            async with supervisor.step("Airflow services"):
                await airflow.wait_for_components(client)
            async with supervisor.step("DAGs"):
                await airflow.wait_for_dags(client)
    except TimeoutError:
        raise StackError(
            f"Airflow was not ready after {_READY_SECONDS:.0f} s: see the logs in {supervisor.layout.logs}"
        ) from None


async def _redis(supervisor: Supervisor) -> celery.Broker:
    async with supervisor.step("redis"):
        redis = celery.prepare()
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


_LOCK_ATTEMPTS = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stack. Returns 0 after a stop that was asked for, 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m local.stack.start")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--ports", type=json.loads, required=True, help='JSON: {"airflow": 8080, ...}')
    parser.add_argument("--executor", choices=EXECUTORS, required=True)
    parser.add_argument(
        "--airflow-options", type=json.loads, default={}, help='JSON: {"AIRFLOW__CORE__PARALLELISM": "4", ...}'
    )
    options = parser.parse_args(argv)
    layout = Layout(options.state_dir)
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    become_subreaper()
    with layout.lock_file.open("a+") as lock:
        if not _take(lock):
            print(json.dumps({"event": "failed", "error": "another stack uses this directory"}), file=report)
            return 1
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        supervisor = Supervisor(layout, report)

        def start(owner: Supervisor) -> Awaitable[object]:
            return assemble(owner, options.ports, options.executor, options.airflow_options)

        return asyncio.run(_supervise(supervisor, start))


async def _supervise(supervisor: Supervisor, start: Callable[[Supervisor], Awaitable[object]]) -> int:
    loop = asyncio.get_running_loop()
    main_task = asyncio.ensure_future(supervisor.run(start))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, main_task.cancel)
    leash = asyncio.create_task(_hold_leash(main_task))
    try:
        await main_task
    except asyncio.CancelledError:
        return 0
    except Exception as error:
        failure = str(error) if isinstance(error, StackError) else f"{type(error).__name__}: {error}"
        write_private_json(supervisor.layout.failed_file, {"at": datetime.now(UTC).isoformat(), "error": failure})
        supervisor.tell("failed", error=failure)
        if isinstance(error, StackError):
            return 1
        raise
    finally:
        leash.cancel()
    return 0


async def _hold_leash(main_task: asyncio.Future[None]) -> None:
    """Stop the stack when the starter's end of the pipe closes before it said `detach`."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip() == b"detach":
            return
    main_task.cancel()


def _take(lock: TextIO) -> bool:
    """Lock the file; waits a moment because `status` may be looking at it."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


if __name__ == "__main__":
    raise SystemExit(main())
