"""Run one command so that nothing of it outlives whoever started it.

    python -m local.processes.guard [--stop-signal INT] [--grace 8] [--user NAME] [--remove DIR] -- command args...

The guard starts the command in a session of its own and ends it, with everything the command started, when
- the command itself ends (the guard then exits with its exit code),
- the guard receives SIGTERM, SIGINT or SIGHUP, or
- its standard input reaches end of file: the starter keeps the other end of that pipe open, and the kernel
  closes it however the starter dies, SIGKILL included.

On Linux the guard is also a *child subreaper*: grandchildren that daemonise or lose their parent are handed
to the guard and not to init, so that they are found and ended too; and the command is killed if the guard
itself is.
The directories named with --remove are deleted last, when no process can be using them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KILL_WAIT_SECONDS = 5.0

EXIT_STOPPED = 143
"""Exit code of a guard that was told to stop (128 + SIGTERM)."""


def become_subreaper() -> None:
    """Adopt orphaned descendants of this process (Linux; no other system has this, and nothing happens)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_tree(root: psutil.Process | None, *, stop_signal: int, grace: float) -> None:
    """End `root` politely, then every descendant of this process.

    Args:
        root: the process that gets `stop_signal` first, so that it can end its own children in its own order.
        stop_signal: what `root` understands as "stop now" (SIGTERM; SIGINT for PostgreSQL's fast shutdown).
        grace: seconds `root` has; what is left then gets SIGKILL.
    """
    if root is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            root.send_signal(stop_signal)
            _wait_gone([root], grace)
    leftovers = _descendants()
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _wait_gone(leftovers, min(grace, 2.0))
    deadline = time.monotonic() + _KILL_WAIT_SECONDS
    while (leftovers := _descendants()) and time.monotonic() < deadline:
        for process in leftovers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _wait_gone(leftovers, 0.5)


def main(argv: Sequence[str] | None = None) -> int:
    """Guard one command until it ends or is told to. Returns the exit code (see the module's docstring)."""
    options = _parse(argv)
    become_subreaper()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            user=options.user,
            group=pwd.getpwnam(options.user).pw_gid if options.user else None,
            extra_groups=[] if options.user else None,
            preexec_fn=_die_with_guard,  # noqa: PLW1509 - the guard has one thread, the only case where it is safe
        )
    except OSError as error:
        print(f"guard: cannot start {options.command[0]}: {error}", file=sys.stderr)
        return 127
    root = psutil.Process(child.pid)
    try:
        code = _wait_for_end(child, wake_read)
        end_tree(
            root if code is None else None,
            stop_signal=signal.Signals[f"SIG{options.stop_signal}"],
            grace=options.grace,
        )
        return EXIT_STOPPED if code is None else code
    finally:
        for directory in options.remove:
            shutil.rmtree(directory, ignore_errors=True)


def _wait_for_end(child: subprocess.Popen[bytes], wake_read: int) -> int | None:
    """Block until the command ended (its exit code; 128 + n for signal n) or the guard must stop (None)."""
    with selectors.DefaultSelector() as selector:
        selector.register(wake_read, selectors.EVENT_READ)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while True:
            if (code := child.poll()) is not None:
                return code if code >= 0 else 128 - code
            for key, _ in selector.select():
                received = os.read(key.fd, 64)
                if key.fd == wake_read:
                    if any(number in _STOP_SIGNALS for number in received):
                        return None
                    _reap_adopted(child.pid)
                elif not received:
                    return None


def _reap_adopted(main_pid: int) -> None:
    """Collect adopted processes that ended, so that no zombie stays; leaves the command itself to `Popen`."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.pid != main_pid and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _wait_gone(processes: Iterable[psutil.Process], timeout: float) -> None:
    psutil.wait_procs(list(processes), timeout=timeout)


def _die_with_guard() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.processes.guard", description="run a command and leave nothing"
    )
    parser.add_argument("--stop-signal", default="TERM", choices=["TERM", "INT"])
    parser.add_argument("--grace", type=float, default=8.0, help="seconds between the stop signal and SIGKILL")
    parser.add_argument("--user", help="run the command as this user (needs root)")
    parser.add_argument("--remove", type=Path, action="append", default=[], help="directory to delete at the end")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
