"""The demo: every pipeline once on the sample data, each promise checked by reading it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from local.demo.archive import run_archive
from local.demo.auction import run_auction
from local.demo.call_details import run_ingest
from local.demo.events import run_events
from local.demo.orders import run_orders_api
from local.demo.report import Report, Tell
from local.processes.layout import write_private_json
from local.stack.description import Stack


def run_demo(stack: Stack) -> int:
    """Run every part once, print what happened, and keep it as ``demo.json`` in the state directory.

    Returns:
        exit code: 0 when everything promised is there, else 1.
    """
    console = Console(highlight=False)
    report_file = Path(stack.logs).parent / "demo.json"
    reports: list[Report] = []
    for name, run in _PARTS.items():
        with _progress(console, name) as tell:
            reports.append(run(stack, tell))
    passed = all(report.passed for report in reports)
    write_private_json(report_file, {"passed": passed, "parts": [report.to_document() for report in reports]})
    _show(reports, console)
    console.print(f"The same for scripts: {report_file}")
    verdict = "All that was promised is there." if passed else "Something promised is missing, see above."
    console.print(f"[bold {'green' if passed else 'red'}]{verdict}[/]")
    return 0 if passed else 1


_PARTS: dict[str, Callable[[Stack, Tell], Report]] = {
    "dex_trigger_archive": run_archive,
    "energy_auction": run_auction,
    "orders API": run_orders_api,
    "call details": run_ingest,
    "events API": run_events,
}


@contextmanager
def _progress(console: Console, name: str) -> Iterator[Tell]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total or None)


def _show(reports: list[Report], console: Console) -> None:
    table = Table(title="What ran")
    for column in ("part", "ended", "took", "result"):
        table.add_column(column, overflow="fold")
    for report in reports:
        table.add_row(report.name, report.state, f"{report.seconds:.0f} s", report.result)
    console.print(table)
    for report in reports:
        console.print(f"\n[bold]{report.name}[/] {escape(report.what)}", soft_wrap=True)
        for place in report.written:
            console.print(f"  wrote  {escape(place)}", soft_wrap=True)
        for check in report.checks:
            mark = "[green]ok[/]" if check.passed else "[red]NO[/]"
            console.print(f"  {mark}     {escape(check.claim)}", soft_wrap=True)
        for exhibit in report.exhibits:
            console.print(Panel(escape(exhibit.text), title=escape(exhibit.title)))
        console.print(Panel(escape(report.explanation), title="what this means"))
