"""The supervisor's process: one a stack, in a session of its own, started by `local.control`, never by hand.

Two pipes connect it with its starter:
- standard output carries one JSON object a line: steps that began and ended, then `ready` or `failed`;
- standard input is the starter's hand on it: end of file means that the starter is gone and the stack must
  stop, unless the line `detach` came before, which lets it run on until SIGTERM (`make up`).

When the stack stops by itself, failed.json keeps the reason.
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
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from local.airflow_options import EXECUTORS
from local.assembly import assemble
from local.guard import become_subreaper
from local.layout import Layout, write_private_json
from local.processes import StackError
from local.supervisor import Supervisor

_LOCK_ATTEMPTS = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stack. Returns 0 after a stop that was asked for, 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m local.supervise")
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
