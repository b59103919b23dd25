"""From "results ready" to "last order stored": the DAG beside a state machine over the same functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.auction_house import RESULTS_FUNCTION, AuctionHouse, Timing
from benchmarks.bench import AUCTION_DAG, Bench, Run
from benchmarks.cpu import CpuUse
from benchmarks.results import Comparison, Part, in_times, medians_in_times
from benchmarks.state_machine import POLL_SECONDS, StateMachine

_AT_ONCE = 40
"""How many orders AWS processes at once in an inline Map; and how many our trigger does."""

_WARM_AIM = 1.25
_SMALL = 10


@dataclass
class _Size:
    """The measured auctions of one size, in turns."""

    orders: int
    warm: bool
    ours: list[Timing] = field(default_factory=list)
    machine: list[Timing] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    machine_cpu: list[CpuUse] = field(default_factory=list)

    @property
    def what(self) -> str:
        return f"{self.orders:,} order{'s' * (self.orders > 1)}, {'warm' if self.warm else 'cold'}"

    def row(self) -> Comparison:
        ours, machine = ([timing.from_ready for timing in side] for side in (self.ours, self.machine))
        what = f"{self.what}, {len(ours)} auction{'s' * (len(ours) > 1)} each"
        return medians_in_times(what, ours, machine, "s", aim=_WARM_AIM if self.warm else None)

    def note(self) -> str:
        run, timing = self.runs[-1], self.ours[-1]
        starts, ends = run.span("process_order")
        tasks = run.of("process_order")
        return (
            f"**{self.what}, the last run.** "
            f"{timing.from_ready - timing.from_answer:.1f} s from ready to Lambda A's answer that had them, "
            f"{timing.from_answer:.1f} s from there to the last order stored. Order tasks: {len(tasks)}, within "
            f"{ends - starts:.1f} s, each {statistics.median(run.durations('process_order')):.1f} s (median); "
            f"the whole run {run.wall:.1f} s. CPU: {_cpu(run.cpu)}; the state machine's: {_cpu(self.machine_cpu[-1])}."
        )


def measure_auction(bench: Bench, *, orders: Sequence[int], repeat: int) -> Part:
    """Time auctions of each size, ours and the state machine's in turns; the big cold ones once."""
    house = AuctionHouse(bench.stack)
    bench.switch_on(AUCTION_DAG)
    # What only the first run after a start pays is not measured.
    house.open(1)
    bench.run(AUCTION_DAG, {"function_a": RESULTS_FUNCTION})
    bench.wait_until_idle(AUCTION_DAG)
    _machine(house, StateMachine(bench.stack), 1)
    machine = StateMachine(bench.stack, max_concurrency=_AT_ONCE)
    measured = []
    for number in orders:
        cold, warm = _Size(number, warm=False), _Size(number, warm=True)
        _measure(bench, house, machine, cold, repeat if number <= _SMALL else 1)
        # Not measured: it starts the processes that the warm ones find.
        _ours(bench, house, number, warm=True)
        _machine(house, machine, number, warm=True)
        _measure(bench, house, machine, warm, repeat)
        measured += [warm, cold]
    measured.sort(key=lambda size: not size.warm)
    rejected = {"rejected": _SMALL // 2, "warm": True}
    ours = _ours(bench, house, _SMALL, **rejected)[0].from_ready
    theirs = _machine(house, machine, _SMALL, **rejected)[0].from_ready
    what = f"{_SMALL} orders, warm, half of them rejected"
    half = in_times(what, f"{ours:.1f} s", f"{theirs:.1f} s", ours / theirs)
    return Part(
        "auction",
        "From the moment there are results to the last order's object in S3, by the emulator's clock. Lambda A "
        f"(`{RESULTS_FUNCTION}`, benchmarks/functions) has no results for an auction's first call and its orders from "
        f"then on; both sides ask again {POLL_SECONDS} s after the first answer. Lambda B is the shipped one; all "
        "orders are accepted unless the row says otherwise. The state machine (benchmarks/state_machine.py: loop, Map, "
        f"Catch to SNS) is as people write it; its Map processes {_AT_ONCE} orders at once, as AWS does where "
        "MaxConcurrency is not given. 'Warm': both sides find the processes of Lambda B that the auctions before "
        "started. 'Cold': both find one, which is what the emulator keeps from one scheduled auction to the next. "
        "Every further invocation at once then starts a process, which takes 0.3 to 0.5 s of this machine's CPU; on "
        "AWS it would take the caller's none. So the cold rows, which have no aim, compare the emulator with itself.",
        [*(size.row() for size in measured), half],
        {size.what: _raw(size) for size in measured},
        [size.note() for size in measured],
    )


def _measure(bench: Bench, house: AuctionHouse, machine: StateMachine, size: _Size, repeat: int) -> None:
    for _ in range(repeat):
        timing, run = _ours(bench, house, size.orders, warm=size.warm)
        size.ours.append(timing)
        size.runs.append(run)
        timing, cpu = _machine(house, machine, size.orders, warm=size.warm)
        size.machine.append(timing)
        size.machine_cpu.append(cpu)


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
    return {
        "ours": [asdict(timing) for timing in size.ours],
        "state_machine": [asdict(timing) for timing in size.machine],
        "cpu": [run.cpu.to_document() for run in size.runs],
        "state_machine_cpu": [use.to_document() for use in size.machine_cpu],
    }
