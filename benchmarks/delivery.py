"""The delivery of events: draining a backlog beside a bare poster, and how soon an event is posted when idle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.bench import DELIVERY_DAG, LATENCY_MS, Bench, BenchmarkError, Run
from benchmarks.cpu import TASKS
from benchmarks.delivery_backlog import Backlog, Posting, Receivers
from benchmarks.delivery_bare import BarePosting, note_in_table, post_bare
from benchmarks.delivery_idle import seconds_to_first_post
from benchmarks.delivery_units import write_units
from benchmarks.memory import PeakMemory, peaks_of
from benchmarks.results import Comparison, Part, medians_in_percent, medians_in_times, percentile
from benchmarks.timeline import where_the_time_goes
from local.clients import AirflowApi, pause_when_idle
from local.partners.receivers import PATH

_STEPS = ("select_due", "deliver", "summarize")
_AT_ONCE = 4 * 96
"""Posts that a run makes at the most: the settings ``delivery_tasks`` and ``delivery_concurrency`` as shipped."""

_RATE_AIM = 0.55
_CPU_AIM = 2.5
_IDLE_AIM_SECONDS = 10.0


@dataclass(frozen=True)
class _Drained:
    """One backlog delivered by Airflow: its runs, more than one if it has very many owners, and what arrived."""

    runs: list[Run]
    posting: Posting

    def cpu(self, service: str | None = None) -> float:
        """CPU seconds of a service, or of the whole stack."""
        uses = [run.cpu for run in self.runs]
        return sum(use.by_service[service] if service else use.stack for use in uses)


def measure_delivery(bench: Bench, *, events: int, owners: int, posts: int, repeat: int) -> Part:
    """Post single events to the idle stack; then drain a backlog as often as told, in turns with the bare poster."""
    receivers = Receivers(bench.stack)
    bench.switch_on(DELIVERY_DAG)
    with AirflowApi(bench.stack) as airflow:
        idle = seconds_to_first_post(bench, receivers, posts)
        backlog = Backlog(bench.stack, receivers, events=events, owners=owners)
        bare, ours = [], []
        for _ in range(repeat):
            bare.append(post_bare(bench.stack, backlog, receivers, at_once=_AT_ONCE))
            ours.append(_drain(bench, backlog, receivers, events))
        with PeakMemory(bench.stack) as memory:
            watched = _drain(bench, backlog, receivers, events)
        peaks = [peak for run in watched.runs for peak in peaks_of(run, "deliver", memory.peaks)]
        units = write_units(bench.stack, receivers)
        backlog.store()
        noting = post_bare(bench.stack, backlog, receivers, at_once=_AT_ONCE, note=note_in_table(bench.stack))
        # It would listen to its queue while others are measured.
        pause_when_idle(airflow, DELIVERY_DAG)
    rates, bare_rates = [each.posting.rate for each in ours], [each.posting.rate for each in bare]
    median = sorted((each.runs[0] for each in ours), key=lambda run: run.wall)[len(ours) // 2]
    return Part(
        "event_delivery",
        f"{events:,} pending events of {owners} owners, delivered by one run of `{DELIVERY_DAG}`, settings as shipped, "
        f"warm stack. The receivers are the partner stubs: they check every signature, and answer after "
        f"{LATENCY_MS:.0f} ms. Timed there, on both sides from the arrival of the first post to that of the last one. "
        "The bare poster (aiohttp, no table, no Airflow) has the same posts ready in memory, signed, and makes up to "
        f"{_AT_ONCE} at once, as a run may, but like it one at a time for each owner: more than "
        f"{min(owners, _AT_ONCE) / LATENCY_MS * 1e3:,.0f} a second are not possible. On both sides every event must "
        f"arrive once, and in its owner's order. In turns; median of {repeat} (range). The bare poster keeps no "
        "account, while the run notes in owners' lanes what was accepted: here the emulator's one process does that, "
        "beside the tasks on the same cores, and bounds what a run can reach; on AWS the table takes none of the "
        "tasks' CPU. So the second row, without an aim, has the same poster note what it delivered, one conditional "
        "UpdateItem for each event. Write units are counted, as AWS does, from the requests that the code of the "
        "events API and of the delivery makes of the emulator's table; beside them, what a delivered event takes "
        "without owners' lanes. When idle: from the API's `201` to the arrival of the event's first post, through the "
        "queue and a run that it wakes (the timed runs are off); posts "
        "come one by one, each some time after the run of the one before has ended.",
        [
            medians_in_percent(f"draining {events:,} events", rates, bare_rates, "events/s", aim=_RATE_AIM),
            medians_in_percent(
                "the same, beside a poster that notes each delivery in the table",
                rates,
                [noting.posting.rate],
                "events/s",
            ),
            medians_in_times(
                "CPU per event: who posts",
                [1000 * each.cpu(TASKS) / events for each in ours],
                [1000 * each.poster_cpu / events for each in bare],
                "ms",
                digits=2,
                aim=_CPU_AIM,
                ratio_digits=1,
            ),
            medians_in_times(
                "CPU per event: the whole stack, emulator and receivers as well",
                [1000 * each.cpu() / events for each in ours],
                [1000 * (each.poster_cpu + each.cpu.stack) / events for each in bare],
                "ms",
                digits=2,
                ratio_digits=1,
            ),
            Comparison("peak memory of the largest posting task", f"{max(peaks):.0f} MB", "-", "-"),
            *units,
            _idle_row(idle, 50, aim=None),
            _idle_row(idle, 95, aim=_IDLE_AIM_SECONDS),
        ],
        {
            "ours": [
                {"posting": asdict(each.posting), "runs": [run.to_document(_STEPS) for run in each.runs]}
                for each in ours
            ],
            "bare": [_raw_bare(each) for each in bare],
            "noting": _raw_bare(noting),
            "idle_seconds": idle,
            "peak_mb": sorted(peaks),
        },
        [where_the_time_goes(f"{events:,} events, the median run", median, _STEPS, calls="posts")],
    )


def _drain(bench: Bench, backlog: Backlog, receivers: Receivers, events: int) -> _Drained:
    backlog.store()
    receivers.forget()
    runs, left = [], events
    while left > 0:
        runs.append(bench.run(DELIVERY_DAG, {}, api=PATH))
        with AirflowApi(bench.stack) as airflow:
            delivered = airflow.xcom(DELIVERY_DAG, runs[-1].run_id, "summarize")["delivered"]
        if not delivered:
            raise BenchmarkError(f"run {runs[-1].run_id} delivered none of {left} events")
        left -= delivered
    return _Drained(runs, backlog.posting())


def _idle_row(values: Sequence[float], share: int, *, aim: float | None) -> Comparison:
    found = percentile(values, share)
    what = f"idle: from 201 to the first post ({len(values)} events), p{share}"
    below, met = (f"below {aim:g} s", found < aim) if aim else ("", None)
    return Comparison(what, f"{found:.1f} s", "-", "-", below, met)


def _raw_bare(each: BarePosting) -> dict[str, Any]:
    return {"posting": asdict(each.posting), "poster_cpu": each.poster_cpu, "cpu": each.cpu.to_document()}
