"""What a person sees while the stack starts: each step with its seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from local.control import Event


class StartProgress:
    """Shows the supervisor's events, live on a terminal and as plain lines elsewhere; call it with each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._running: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._console.print("starting the local stack (about half a minute)")
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._render, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case {"event": "started", "step": step}:
                self._running[step] = time.monotonic()
            case {"event": "done", "step": step, "seconds": seconds}:
                self._running.pop(step, None)
                self._console.print(f"  [green]✓[/] {step:<34} {seconds:5.1f} s")
            case {"event": "ready"}:
                self._console.print(f"  [green]✓[/] {'ready':<34} {time.monotonic() - self._began:5.1f} s in all")

    def close(self) -> None:
        """End the live display; what was printed stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for step, began in self._running.items():
            table.add_row(" ", Spinner("dots", style="cyan"), f"{step:<32}", f"{time.monotonic() - began:5.1f} s")
        return table
