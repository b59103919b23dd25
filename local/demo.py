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

from local.demo_archive import run_archive
from local.demo_report import PipelineReport, Tell
from local.layout import write_private_json
from local.stack import Stack


def run_demo(stack: Stack) -> int:
    """Run every pipeline once, print what happened, and keep it as ``demo.json`` in the state directory.

    Returns:
        exit code: 0 when everything promised is there, else 1.
    """
    console = Console(highlight=False)
    report_file = Path(stack.logs).parent / "demo.json"
    reports: list[PipelineReport] = []
    for name, run in _PIPELINES.items():
        with _progress(console, name) as tell:
            reports.append(run(stack, tell))
    passed = all(report.passed for report in reports)
    write_private_json(report_file, {"passed": passed, "pipelines": [report.to_document() for report in reports]})
    _show(reports, console)
    console.print(f"The same for scripts: {report_file}")
    verdict = "All that was promised is there." if passed else "Something promised is missing, see above."
    console.print(f"[bold {'green' if passed else 'red'}]{verdict}[/]")
    return 0 if passed else 1


_PIPELINES: dict[str, Callable[[Stack, Tell], PipelineReport]] = {"dex_trigger_archive": run_archive}


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


def _show(reports: list[PipelineReport], console: Console) -> None:
    table = Table(title="What ran")
    for column in ("pipeline", "run", "took", "result", "alerts"):
        table.add_column(column, overflow="fold")
    for report in reports:
        took, alerts = f"{report.seconds:.0f} s", str(len(report.alerts))
        table.add_row(report.pipeline, report.state, took, report.result, alerts)
    console.print(table)
    for report in reports:
        console.print(f"\n[bold]{report.pipeline}[/] {report.run_id}")
        for place in report.written:
            console.print(f"  wrote  {place}", soft_wrap=True)
        for check in report.checks:
            mark = "[green]ok[/]" if check.passed else "[red]NO[/]"
            console.print(f"  {mark}     {check.claim}", soft_wrap=True)
        for alert in report.alerts:
            console.print(Panel(escape(alert), title="the alert, as SNS delivered it"))
        console.print(Panel(report.explanation, title="what this means"))
