"""From "results ready" to "last order stored": the DAG beside a state machine over the same functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from benchmarks.auction_house import RESULTS_FUNCTION, AuctionHouse, Timing
from benchmarks.bench import AUCTION_DAG, Bench, Run
from benchmarks.cpu import CpuUse
from benchmarks.results import Comparison, Part, median_and_range
from benchmarks.state_machine import POLL_SECONDS, StateMachine

_SMALL = 10
_SMALL_MAY_TAKE_LONGER = 6.0
_BIG = 500
_AWS_CONCURRENCY = 40
"""How many orders AWS processes at once in an inline Map whose MaxConcurrency is not given."""

_PROCESS_BYTES = 40 * 2**20
"""What a process of Lambda B takes of the free memory on the emulator, rounded up."""


@dataclass
class _Size:
    """The measured auctions of one size, in turns."""

    orders: int
    at_once: int
    ours: list[Timing] = field(default_factory=list)
    machine: list[Timing] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    machine_cpu: list[CpuUse] = field(default_factory=list)

    def row(self) -> Comparison:
        ours, machine = ([timing.from_ready for timing in side] for side in (self.ours, self.machine))
        mine, theirs = statistics.median(ours), statistics.median(machine)
        ratio = f"{mine / theirs:.2f} times"
        if self.orders <= _SMALL:
            ratio, aim, met = f"{mine - theirs:+.1f} s", "within 6 s", mine - theirs <= _SMALL_MAY_TAKE_LONGER
        elif self.orders < _BIG:
            aim, met = "not slower", mine <= theirs
        else:
            aim, met = "half the time", mine <= theirs / 2
        limited = f", Map with MaxConcurrency {self.at_once}" if self.at_once else ""
        what = f"{_orders(self.orders)}{limited}, {len(ours)} auction{'s' * (len(ours) > 1)} each"
        return Comparison(what, median_and_range(ours, "s"), median_and_range(machine, "s"), ratio, aim, met)

    def note(self) -> str:
        run, timing = self.runs[-1], self.ours[-1]
        starts, ends = run.span("process_order")
        tasks = run.of("process_order")
        return (
            f"**{_orders(self.orders)}, the last run.** "
            f"{timing.from_ready - timing.from_answer:.1f} s from ready to Lambda A's answer that had them, "
            f"{timing.from_answer:.1f} s from there to the last order stored. Order tasks: {len(tasks)}, within "
            f"{ends - starts:.1f} s, each {statistics.median(run.durations('process_order')):.1f} s (median); "
            f"the whole run {run.wall:.1f} s. CPU: {_cpu(run.cpu)}; the state machine's: {_cpu(self.machine_cpu[-1])}."
        )


def measure_auction(bench: Bench, *, sizes: Sequence[int], repeat: int) -> Part:
    """Time auctions of each size, ours and the state machine's in turns; the big ones once."""
    house = AuctionHouse(bench.stack)
    bench.switch_on(AUCTION_DAG)
    # What only the first run after a start pays is not measured.
    house.open(1)
    bench.run(AUCTION_DAG, {"function_a": RESULTS_FUNCTION})
    bench.wait_until_idle(AUCTION_DAG)
    _machine(house, StateMachine(bench.stack), 1)
    measured = []
    for orders in sizes:
        size = _Size(orders, _at_once(orders))
        machine = StateMachine(bench.stack, max_concurrency=size.at_once)
        measured.append(size)
        for _ in range(repeat if orders <= _SMALL else 1):
            timing, run = _ours(bench, house, orders)
            size.ours.append(timing)
            size.runs.append(run)
            timing, cpu = _machine(house, machine, orders)
            size.machine.append(timing)
            size.machine_cpu.append(cpu)
    rows = [size.row() for size in measured]
    rows += _other_conditions(bench, house, measured[-1])
    return Part(
        "auction",
        "From the moment there are results to the last order's object in S3, by the emulator's clock. Lambda A "
        f"(`{RESULTS_FUNCTION}`, benchmarks/functions) has no results for an auction's first call and its orders from "
        f"then on; both sides ask again {POLL_SECONDS} s after the first answer. Lambda B is the shipped one; all "
        "orders are accepted unless the row says otherwise. The state machine (benchmarks/state_machine.py: loop, Map, "
        "Catch to SNS) is as people write it, without MaxConcurrency, unless so many processes would not fit into half "
        "of the free memory: then the row tells. Both sides begin with one warm process of Lambda B: what the emulator "
        "keeps from one scheduled auction to the next. Every further invocation at once starts a process, which takes "
        "0.3 to 0.5 s of this machine's CPU; on AWS it would take the caller's none. The last rows, which have no aim, "
        "show how much of the difference that is: with the state machine held to "
        f"{_AWS_CONCURRENCY} orders at once (which is what AWS does with such a Map), and with the processes left in "
        "place that the auctions before had started ('warm').",
        rows,
        {str(size.orders): _raw(size) for size in measured},
        [size.note() for size in measured],
    )


def _other_conditions(bench: Bench, house: AuctionHouse, size: _Size) -> list[Comparison]:
    """An auction of that size with the state machine held to AWS's concurrency, and warm; and rejected orders."""
    held = StateMachine(bench.stack, max_concurrency=_AWS_CONCURRENCY)
    limited = f"{_orders(size.orders)}, Map with MaxConcurrency {_AWS_CONCURRENCY}"
    ours = statistics.median(timing.from_ready for timing in size.ours)
    rows = [_plain(limited, ours, _machine(house, held, size.orders)[0].from_ready)]
    for what, baseline, orders, condition in (
        (f"{limited}, warm", held, size.orders, {"warm": True}),
        (f"{_orders(_SMALL)}, half of them rejected", held, _SMALL, {"rejected": _SMALL // 2}),
    ):
        ours = _ours(bench, house, orders, **condition)[0].from_ready
        rows.append(_plain(what, ours, _machine(house, baseline, orders, **condition)[0].from_ready))
    return rows


def _at_once(orders: int) -> int:
    """MaxConcurrency of the Map: none, unless that many processes would fill more than half of the free memory."""
    fitting = psutil.virtual_memory().available // 2 // _PROCESS_BYTES
    return 0 if orders <= fitting else fitting


def _plain(what: str, ours: float, baseline: float) -> Comparison:
    return Comparison(what, f"{ours:.1f} s", f"{baseline:.1f} s", f"{ours / baseline:.2f} times")


def _orders(number: int) -> str:
    return f"{number:,} order{'s' * (number > 1)}"


def _ours(bench: Bench, house: AuctionHouse, orders: int, **condition: Any) -> tuple[Timing, Run]:
    house.open(orders, **condition)
    run = bench.run(AUCTION_DAG, {"function_a": RESULTS_FUNCTION})
    return house.close(), run


def _machine(house: AuctionHouse, machine: StateMachine, orders: int, **condition: Any) -> tuple[Timing, CpuUse]:
    house.open(orders, **condition)
    cpu = machine.run()
    return house.close(), cpu


def _cpu(use: CpuUse) -> str:
    busiest = sorted(use.by_service.items(), key=lambda item: -item[1])[:4]
    shown = ", ".join(f"{name} {used:.1f} s" for name, used in busiest)
    return f"{shown} (other processes of the machine {use.busy_elsewhere:.0%} of it)"


def _raw(size: _Size) -> dict[str, Any]:
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: [asdict(timing) for timing in size.ours],
        "state_machine": lambda: [asdict(timing) for timing in size.machine],
        "cpu": lambda: [run.cpu.to_document() for run in size.runs],
        "state_machine_cpu": lambda: [use.to_document() for use in size.machine_cpu],
    }
    return {name: value() for name, value in sides.items()}
