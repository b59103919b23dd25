"""The table of `make status`."""

from __future__ import annotations

import json

import psutil
from rich.console import Console
from rich.table import Table

from local.layout import Layout
from local.stack import Stack, running_supervisor

_EXIT_NOT_RUNNING = 3


def print_status(layout: Layout, console: Console) -> int:
    """Print what runs in this state directory; returns 0 if a stack runs, 3 (as `systemctl`) if none does."""
    pid = running_supervisor(layout)
    if pid is None:
        console.print("no local stack is running")
        if layout.failed_file.exists():
            failure = json.loads(layout.failed_file.read_text())
            console.print(f"the last one stopped by itself at {failure['at']}:")
            console.print(failure["error"], markup=False, soft_wrap=True)
        return _EXIT_NOT_RUNNING
    if not layout.stack_file.exists():
        console.print(f"the local stack is starting or stopping (supervisor: pid {pid})")
        return 0
    stack = Stack.read(layout.root)
    urls = {
        "api-server": stack.airflow_url,
        "emulator": stack.aws_endpoint_url,
        "partners": stack.partners_url,
    }
    table = Table("service", "pid", "state", "address")
    for service, service_pid in {"supervisor": pid, **stack.pids}.items():
        table.add_row(service, str(service_pid), _state(service_pid), urls.get(service, ""))
    console.print(table)
    console.print(f"orders API: {stack.orders_api_url}/orders", soft_wrap=True)
    console.print(f"events API: {stack.events_api_url}/events", soft_wrap=True)
    return 0


def _state(pid: int) -> str:
    try:
        return "zombie" if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else "running"
    except psutil.NoSuchProcess:
        return "gone"
