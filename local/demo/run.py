"""The demo: every pipeline once on the sample data, each promise checked by reading it back.

The parts run in lanes side by side. Those that change how the partner stubs behave are in one lane.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from include.archive.keys import MANIFESTS
from local.demo import archive, auction, call_details, events, orders
from local.demo.part import Part
from local.processes.layout import write_private_json
from local.stack.description import Stack

Run = Callable[[Stack, Part], None]

LANES: Sequence[Mapping[str, tuple[str, Run]]] = (
    {
        "dex_trigger_archive": (archive.EXPLANATION, archive.run_archive),
        "orders API": (orders.EXPLANATION, orders.run_orders_api),
    },
    {"energy_auction": (auction.EXPLANATION, auction.run_auction)},
    {
        "events API": (events.EXPLANATION, events.run_events),
        "call details": (call_details.EXPLANATION, call_details.run_call_details),
    },
)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""As Debian calls it, and as machines of CI services do."""

QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
"""Without these the browser itself asks its maker's hosts."""

_PICTURE_SECONDS = 30.0


def run_demo(
    stack: Stack,
    lanes: Sequence[Mapping[str, tuple[str, Run]]] = LANES,
    *,
    take: Callable[[Stack, Path], list[str]] | None = None,
) -> int:
    """Run every part once, print what happened, and keep it as ``demo.json`` in the state directory.

    The lanes, by name of a part its explanation and function, run at the same time. ``take`` takes pictures when they
    have ended, as :func:`take_pictures`. Returns the exit code: 0 when everything promised is there, else 1.
    """
    console = Console(highlight=False)

    def run_lane(lane: Mapping[str, tuple[str, Run]]) -> list[Part]:
        return [run_part(stack, console, Part(name, why), run) for name, (why, run) in lane.items()]

    threads = ThreadPoolExecutor(len(lanes))
    try:
        parts = [part for lane in threads.map(run_lane, lanes) for part in lane]
    finally:
        # Who interrupts waits for no part: those that run end with the stack.
        threads.shutdown(wait=False)
    passed = all(part.passed for part in parts)
    report_file = Path(stack.logs).parent / "demo.json"
    document = [{**asdict(part), "passed": part.passed} for part in parts]
    write_private_json(report_file, {"passed": passed, "parts": document})
    show(parts, console)
    console.print("\nPictures of the operations page:")
    for line in (take or take_pictures)(stack, report_file.with_name("pictures")):
        console.print(f"  {escape(line)}", soft_wrap=True)
    console.print(f"The same for scripts: {escape(str(report_file))}", soft_wrap=True)
    verdict = "All that was promised is there." if passed else "Something promised is missing, see above."
    console.print(f"[bold {'green' if passed else 'red'}]{verdict}[/]")
    return 0 if passed else 1


def take_pictures(stack: Stack, folder: Path) -> list[str]:
    """Take a picture of each view of the operations page; returns lines that name them, or say why one is missing."""
    found = stack.aws("s3").list_objects_v2(Bucket=stack.archive_bucket, Prefix=MANIFESTS, Delimiter="/")
    digits = max((each["Key"] for each in found.get("Contents", ())), default="").rpartition("/")[2][:8]
    day = f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    page = "/plugin/operations"
    return pictures(
        stack.airflow_url,
        {
            "evidence": f"{page}/evidence?client=1000&day={day}",
            "days": f"{page}/days?day={day}",
            "files": f"{page}/files",
            "orders": f"{page}/orders",
            "events": f"{page}/events",
            "tonight": "/",
        },
        folder,
    )


def pictures(url: str, views: Mapping[str, str], folder: Path) -> list[str]:
    """Take pictures ``<name>.png`` of pages with this machine's Chromium, two at once; as :func:`take_pictures`."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        return [f"no pictures: install a Chromium ({', '.join(BROWSERS)}; on Debian: apt-get install chromium)"]
    folder.mkdir(parents=True, exist_ok=True)

    def take(view: str) -> str:
        path = folder / f"{view}.png"
        path.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as profile:
            options = [*QUIET, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,720"]
            # Time in the page passes as soon as nothing is being loaded.
            options += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", f"--screenshot={path}"]
            try:
                command = [chromium, *options, f"{url}{views[view]}"]
                subprocess.run(command, capture_output=True, timeout=_PICTURE_SECONDS, check=True)
            except (subprocess.SubprocessError, OSError) as error:
                return f"no picture of {view}: {error}"
        return f"{path}  ({view})" if path.is_file() else f"no picture of {view}: {chromium} wrote none"

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(take, views))


def run_part(stack: Stack, console: Console, part: Part, run: Run) -> Part:
    """Run one part; what it cannot read back is a promise that is not kept, and stops no other part."""
    console.print(f"running {part.name} ...")
    started = time.monotonic()
    try:
        run(stack, part)
    except Exception as error:  # noqa: BLE001 - whatever is missing, the other parts are shown
        part.checks[f"it ended early: {type(error).__name__}: {error}"] = False
    part.seconds = round(time.monotonic() - started, 1)
    return part


def show(parts: Sequence[Part], console: Console) -> None:
    """Print what each part wrote, promised and received, then a table of all."""
    for part in parts:
        console.print(f"\n[bold]{part.name}[/] {escape(part.what)}", soft_wrap=True)
        for place in part.written:
            console.print(f"  wrote  {escape(place)}", soft_wrap=True)
        for claim, kept in part.checks.items():
            console.print(f"  {'[green]ok[/]' if kept else '[red]NO[/]'}     {escape(claim)}", soft_wrap=True)
        for title, text in part.exhibits.items():
            console.print(Panel(escape(text), title=escape(title)))
        console.print(Panel(escape(part.explanation), title="what this means"))
    table = Table("part", "took", "result", title="What ran, side by side")
    for part in parts:
        table.add_row(part.name, f"{part.seconds:.0f} s", escape(part.result))
    console.print(table)
