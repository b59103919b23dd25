"""A running stack as scripts, tests and benchmarks see it, and how it is found."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import httpx

from local.processes.layout import (
    DEFAULT_STATE_DIRECTORY,
    Layout,
    clean_environment,
    parse_shell_exports,
    write_private_json,
)
from local.processes.supervisor import StackError


@dataclass(frozen=True, slots=True)
class Stack:
    """Contents of stack.json: addresses, names and process ids of a running stack."""

    airflow_url: str
    airflow_token_url: str
    aws_endpoint_url: str
    region: str
    partners_url: str
    environment: str
    archive_bucket: str
    alerts_topic_arn: str
    alerts_queue_url: str
    alerts_queue_name: str
    order_results_bucket: str
    auction_results_function: str
    auction_order_function: str
    orders_api_url: str
    orders_table: str
    orders_jwt_secret: str
    ingest_bucket: str
    ingest_ledger_table: str
    call_details_dlq_url: str
    events_api_url: str
    events_table: str
    api_keys_table: str
    subscriptions_table: str
    event_queue_url: str
    event_dlq_url: str
    client_database: str
    settings_variable: str
    pids: dict[str, int]
    replaced: dict[str, int]
    logs: str
    env_file: str

    @classmethod
    def read(cls, state_directory: Path = DEFAULT_STATE_DIRECTORY) -> Self:
        """The stack that runs with this state directory; raises StackError if none runs, or none yet or any more."""
        layout = Layout(state_directory)
        pid = running_supervisor(layout)
        if pid is None:
            raise StackError(f"no stack is running in {state_directory}: start one with 'make up'")
        try:
            content = json.loads(layout.stack_file.read_text())
        except FileNotFoundError:
            raise StackError("the stack is starting or stopping: 'make status' says more in some seconds") from None
        try:
            return cls(**{field.name: content[field.name] for field in fields(cls)})
        except KeyError:
            raise StackError(
                f"another version of this project started the stack in {state_directory}: 'make down' stops it, and "
                "'make up' starts one of this version"
            ) from None

    def write(self, layout: Layout) -> None:
        """Publish this stack in stack.json (mode 0600)."""
        write_private_json(layout.stack_file, asdict(self))

    def aws(self, service: str) -> Any:
        """A boto3 client of one service of the emulator."""
        from local.services.emulator import aws_client

        return aws_client(service, self.aws_endpoint_url)

    def airflow(self, *, timeout: float = 60.0) -> httpx.Client:
        """An HTTP client of Airflow's API with a token in place; `timeout` in seconds; close it after use."""
        token = httpx.get(self.airflow_token_url, timeout=timeout).raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.airflow_url, headers=headers, timeout=timeout)

    def airflow_environment(self) -> dict[str, str]:
        """Complete environment for running Airflow's commands against this stack."""
        return {**clean_environment(), **parse_shell_exports(Path(self.env_file))}


def running_supervisor(layout: Layout) -> int | None:
    """Process id of the supervisor of this state directory, or None.

    The supervisor holds a lock on a file for as long as it lives, and the kernel releases it however it dies:
    files that a crash left behind, or a process id used again, cannot be mistaken for a running stack.
    """
    try:
        with layout.lock_file.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None
