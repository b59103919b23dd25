"""Command line of the local stack: `python -m local {up,down,status,demo,airflow}`; `make` calls it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from local.processes.layout import (
    DEFAULT_STATE_DIRECTORY,
    PREFERRED_AIRFLOW_PORT,
    PROJECT_ROOT,
    PYTHON,
    Layout,
    PortError,
)
from local.processes.supervisor import StackError
from local.services.airflow import DEFAULT_EXECUTOR, EXECUTORS
from local.stack.control import StackOptions, StartProgress, print_status, running_stack, start_detached, stop
from local.stack.description import Stack

_EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        return int(_COMMANDS[options.command](options, console))
    except (StackError, PortError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED


def _up(options: argparse.Namespace, console: Console) -> int:
    with StartProgress(console) as progress:
        preferring_8080 = replace(_stack_options(options), preferred_airflow_port=PREFERRED_AIRFLOW_PORT)
        stack = start_detached(preferring_8080, on_event=progress)
    if options.sample:
        from local.sample.month import fill_stack

        fill_stack(stack, datetime.now(UTC))
    console.print(f"\nAirflow's UI   {stack.airflow_url}   (no login: everyone is admin here)")
    console.print(f"partner stubs  {stack.partners_url}/journal")
    console.print(f"AWS emulator   {stack.aws_endpoint_url}")
    console.print(f"orders API     {stack.orders_api_url}/orders", soft_wrap=True)
    console.print(f"events API     {stack.events_api_url}/events", soft_wrap=True)
    state = _shown(options.state_dir)
    console.print(f"for scripts    {state}/stack.json, logs in {state}/logs")
    console.print("next           make status, make down, .venv/bin/python -m local airflow --help", soft_wrap=True)
    return 0


def _down(options: argparse.Namespace, console: Console) -> int:
    if stop(options.state_dir):
        console.print("the local stack has stopped")
    else:
        console.print("no local stack is running")
    return 0


def _status(options: argparse.Namespace, console: Console) -> int:
    return print_status(Layout(options.state_dir.resolve()), console)


def _demo(options: argparse.Namespace, console: Console) -> int:
    from local.demo.run import run_demo

    with (
        StartProgress(console) as progress,
        running_stack(_stack_options(options), on_event=progress) as stack,
    ):
        progress.close()
        return run_demo(stack)


def _airflow(options: argparse.Namespace, _: Console) -> int:
    stack = Stack.read(options.state_dir.resolve())
    sys.stdout.flush()
    os.chdir(PROJECT_ROOT)
    # Warnings to the developers of libraries, such as of a drawing program that is not installed.
    environment = stack.airflow_environment() | {"PYTHONWARNINGS": "ignore"}
    os.execve(PYTHON, [str(PYTHON), "-m", "airflow", *options.arguments], environment)


_COMMANDS = {"up": _up, "down": _down, "status": _status, "demo": _demo, "airflow": _airflow}


def _stack_options(options: argparse.Namespace) -> StackOptions:
    return StackOptions(
        state_directory=options.state_dir,
        airflow_port=options.airflow_port,
        aws_port=options.aws_port,
        partners_port=options.partners_port,
        executor=options.executor,
    )


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state-dir", type=Path, default=DEFAULT_STATE_DIRECTORY,
        help="where the stack keeps its state (default: .local); several run side by side",
    )  # fmt: skip
    start = argparse.ArgumentParser(add_help=False)
    for service, text in (
        ("airflow", "for up 8080 if free, else a free one"),
        ("aws", "a free one"),
        ("partners", "a free one"),
    ):
        variable = f"{service.upper()}_PORT"
        start.add_argument(
            f"--{service}-port", type=int, metavar="PORT", default=os.environ.get(variable) or None,
            help=f"fixed port on 127.0.0.1 (default: {variable} from the environment, else {text})",
        )  # fmt: skip
    start.add_argument(
        "--executor", choices=EXECUTORS, default=DEFAULT_EXECUTOR,
        help="what runs the tasks; Celery has two workers and a Redis (default: %(default)s)",
    )  # fmt: skip
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common, start], help="start the stack and keep it running")
    up.add_argument("--sample", choices=["month"], help="fill it with a month of days, auctions, files and owners")
    commands.add_parser("down", parents=[common], help="stop the stack, with all its processes")
    commands.add_parser("status", parents=[common], help="show services, process ids and addresses")
    commands.add_parser("demo", parents=[common, start], help="start a stack, run the pipelines once, stop")
    airflow = commands.add_parser("airflow", parents=[common], help="run Airflow's commands on the stack")
    airflow.add_argument("arguments", nargs=argparse.REMAINDER, help="for example: dags list")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
