"""`python -m tests.chaos`: load on all pipelines, faults at random, and a reconciliation of everything at the end.

Load and faults are drawn from the seed; which task a fault meets is up to the machine. Prints tables, and ends with 0
only if nothing was lost, nothing is stuck, and nothing is doubled beyond what the contract allows: an event or a batch
may arrive twice under its id.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from include.call_details.rate_limit import permits_in_use
from include.clients.dynamodb import ItemTable
from local.clients.airflow import AirflowApi
from local.processes.supervisor import StackError
from local.stack.control import StackOptions, running_stack
from local.stack.description import Stack
from ops.evidence import Verification
from tests.worlds.live import archive, auction, call_details, delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import TRIGGER, Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import lose, running_tasks, service_of, standing_still
from tests.worlds.live.secrets import Secrets

ORDERS = [{"status": "accepted", "power": power} for power in range(6)] + [{"status": "rejected"}] * 2
OWNERS = 8
QUIET_SECONDS = 900.0
"""For which everything may take to come to rest after the last fault: leases, heartbeats and time limits end."""

AIRFLOW_OPTIONS = {
    # A lost task is missed after so many seconds, not after the minute of the shipped options.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
    # No run of the schedule's own beside those of the load.
    "AIRFLOW__PIPELINES__ENERGY_AUCTION_SCHEDULE": f"0 0 1 {(datetime.now(UTC).month + 4) % 12 + 1} *",
}

PATHS = (TRIGGER, "/oauth2/token", call_details.BATCHES, call_details.LOGIN, "/receivers", "/slack")
TROUBLES: Sequence[dict[str, Any]] = (
    {"status": 503},
    {"cut": "before"},
    {"latency_ms": 3000},
    {"cut": "mid"},
    {"status": 500, "applied": True},
)

TROUBLE = (httpx.HTTPError, StackError, BotoCoreError, ClientError, psutil.Error, KeyError, AssertionError)
"""What a fault does to those that put load on: they try again."""


@dataclass
class Load:
    """What was asked of the pipelines and accepted by them."""

    days: dict[date, str] = field(default_factory=dict)
    auctions: list[str] = field(default_factory=list)
    files: list[tuple[call_details.File, list[int]]] = field(default_factory=list)
    events: list[tuple[str, delivery.Owner]] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """One fault: when it began, what it was, and how many tasks ran."""

    at: float
    kind: str
    what: str
    under_way: int


@dataclass
class Finding:
    """What became of one kind of things."""

    things: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: int = 0
    forbidden: list[str] = field(default_factory=list)
    told: int = 0
    told_again: int = 0


class Campaign:
    """Load and faults on one stack."""

    def __init__(self, stack: Stack, directory: Path, *, seed: int, tell: Callable[[str], None]) -> None:
        self.stack, self.tell = stack, tell
        self.airflow = AirflowApi(stack)
        self.secrets = Secrets(stack)
        self.partners = Partners(stack, self.secrets)
        self.load, self.faults = Load(), list[Fault]()
        self._chance = {name: random.Random(f"{seed} {name}") for name in ("faults", "files", "events")}
        self._stop = threading.Event()
        self._days = (date(2025, 1, 6) + timedelta(days=number) for number in range(10_000))
        self._pipelines = {dag: Pipeline(dag, self.airflow) for dag in _DAGS}
        self.archive = archive.Archive(stack)
        self.results = auction.Results(stack, self._pipelines[auction.DAG_ID])
        self.files = call_details.Ingest(stack, self.partners, self._pipelines[call_details.DAG_ID])
        self.events = delivery.Delivery(stack, self._pipelines[delivery.DAG_ID])
        self._owners = [self.events.owner(f"chaos-{number}") for number in range(OWNERS)]
        self._function = Functions(stack, directory).auction({"answer": auction.ready(ORDERS)}).name
        with closing(sqlite3.connect(stack.client_database)) as database:
            query = resources.files("include.sql").joinpath("dex_clients.sql").read_text(encoding="utf-8")
            self.clients = sorted(int(row[0]) for row in database.execute(query))
        self._weather: list[dict[str, Any]] = []
        # One client whose answer is refused for good, so that there is something to tell of each day.
        self._rules: list[dict[str, Any]] = [{"match": {"clientId": [str(self.clients[7])]}, "status": 403}]

    def run(self, seconds: float) -> None:
        """Put load on and make faults for so long, then wait until all is quiet."""
        for dag in _DAGS:
            self.airflow.unpause(dag)
        self._order()
        loads = [
            threading.Thread(target=self._keep_up, args=(work, every), daemon=True)
            for work, every in ((self._day, 25), (self._auction, 20), (self._file, 8), (self._event, 0.7))
        ]
        for thread in loads:
            thread.start()
        end, chance = time.monotonic() + seconds, self._chance["faults"]
        time.sleep(min(15.0, seconds / 4))
        while (left := end - time.monotonic()) > 0:
            self._fault(chance, left)
            time.sleep(min(chance.uniform(2, 10), max(end - time.monotonic(), 0)))
        self._stop.set()
        for thread in loads:
            thread.join(60)
        self._weather = []
        self._order()
        self.tell("no more load and no more faults; waiting until all is quiet")

    # ---- load -------------------------------------------------------------------------------------------------

    def _keep_up(self, work: Callable[[], None], every: float) -> None:
        while not self._stop.wait(every):
            with contextlib.suppress(*TROUBLE):
                work()

    def _day(self) -> None:
        day = next(self._days)
        self.load.days[day] = ""
        self.load.days[day] = self._started(archive.DAG_ID, trigger_date=day.isoformat())

    def _auction(self) -> None:
        self.load.auctions.append(self._started(auction.DAG_ID, function_a=self._function))

    def _started(self, dag: str, **conf: Any) -> str:
        """Start a run under an id of ours, so that a start whose answer was lost is known all the same."""
        run_id = f"chaos__{time.time_ns()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        for _ in range(60):
            try:
                self.airflow.request("POST", f"/dags/{dag}/dagRuns", json=body)
            except StackError as error:
                if "answered 409" not in str(error):
                    time.sleep(1)
                    continue
            return run_id
        raise StackError(f"no run of {dag} could be started in a minute")

    def _file(self) -> None:
        chance = self._chance["files"]
        number, records = len(self.load.files), chance.choice([3, 40, 900, 4000, 12_000])
        content = call_details.lines(records, text=f"file {number}")
        name = f"chaos-{number}.txt"
        if number % 3 == 0:
            name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        refused = [0] if number % 5 == 4 else []
        etagged = call_details.File(self.files.name, f"incoming/{name}", _etag(content), content, 500)
        if refused:
            self._rules.append({"status": 422, **etagged.rule(*refused)})
            self._order()
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE):
                self.files.s3.put_object(Bucket=self.files.name, Key=etagged.key, Body=content)
                self.load.files.append((etagged, refused))
                return
            time.sleep(1)

    def _event(self) -> None:
        owner = self._chance["events"].choice(self._owners)
        body = {"event_type": "chaos", "payload": {"n": time.time_ns()}, "idempotency_key": f"k{time.time_ns()}"}
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE):
                answer = self.events.call(owner, "POST", "/events", json=body)
                if answer.status_code in {httpx.codes.CREATED, httpx.codes.OK}:
                    self.load.events.append((answer.json()["event_id"], owner))
                    return
            time.sleep(1)

    # ---- faults -----------------------------------------------------------------------------------------------

    def _fault(self, chance: random.Random, left: float) -> None:
        kinds = [self._kill_task] * 8 + [self._kill_service] * 2 + [self._stop_service] * 2 + [self._bad_weather] * 4
        make = chance.choice(kinds)
        with contextlib.suppress(*TROUBLE):
            running = len(running_tasks(self.stack))
            at = time.time()
            if (found := make(chance, left)) is not None:
                kind, what = found
                self.faults.append(Fault(at, kind, what, running))
                self.tell(f"{kind}: {what} ({running} tasks ran)")

    def _kill_task(self, chance: random.Random, left: float) -> tuple[str, str] | None:
        tasks = running_tasks(self.stack)
        if not tasks:
            return None
        chosen = chance.choice(sorted(tasks))
        tasks[chosen].kill()
        return "task killed", chosen

    def _kill_service(self, chance: random.Random, left: float) -> tuple[str, str]:
        name = chance.choice(["api-server", "scheduler", "dag-processor", "triggerer"])
        lose(service_of(self.stack, name))
        return "service killed", name

    def _stop_service(self, chance: random.Random, left: float) -> tuple[str, str]:
        name, seconds = chance.choice(["emulator", "postgres"]), min(chance.uniform(1, 15), left)
        with standing_still(service_of(self.stack, name)):
            time.sleep(seconds)
        return "service stood still", f"{name}, {seconds:.0f} s"

    def _bad_weather(self, chance: random.Random, left: float) -> tuple[str, str]:
        path = chance.choice(
            [TRIGGER, "/oauth2/token", call_details.BATCHES, call_details.LOGIN, "/receivers", "/slack"]
        )
        fault: dict[str, Any] = chance.choice(
            [{"status": 503}, {"status": 500, "applied": True}, {"cut": "before"}, {"cut": "mid"}, {"latency_ms": 3000}]
        )
        share = chance.choice([0.3, 0.7])
        self._weather = [*self._weather[-2:], {"path": path, "share": share, "seed": chance.randint(1, 99), **fault}]
        self._order()
        return "partner in trouble", f"{path}: {fault}, {share:.0%} of the calls"

    def _order(self) -> None:
        self.partners.order(*self._rules, *self._weather)

    # ---- reconciliation ---------------------------------------------------------------------------------------

    def wait_until_quiet(self) -> list[str]:
        """What is still under way when the time is up; nothing, if all came to rest."""
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            try:
                left = list(self._under_way())
            except TROUBLE as error:
                left = [f"no answer: {error}"]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(3)

    def _under_way(self) -> Iterator[str]:
        for dag in (archive.DAG_ID, auction.DAG_ID, call_details.DAG_ID):
            for run in self.airflow.runs(dag):
                if run["state"] in {"queued", "running"}:
                    yield f"run {run['dag_run_id']} of {dag} is {run['state']}"
        receipts = set(self.files.keys("receipts/"))
        for file, _ in self.load.files:
            if f"receipts/{file.key}.{file.etag}.json" not in receipts:
                yield f"{file.key} has no receipt"
        yield from (f"{key} was not taken" for key in self.files.keys("incoming/"))
        for event_id, _ in self.load.events:
            status = self.events.event(event_id)["status"]
            if status == "pending":
                yield f"event {event_id} is pending"

    def reconcile(self) -> dict[str, Finding]:
        """What became of everything, by kind."""
        inbox = Inbox(self.stack)
        told = [*inbox.sns(), *inbox.slack()]
        return {
            "answers archived": self._answers(told),
            "orders": self._orders(told),
            "batches of records": self._batches(),
            "events": self._arrivals(),
            "evidence": self._evidence(),
        }

    def _answers(self, told: Sequence[str]) -> Finding:
        finding = Finding()
        for day, run_id in self.load.days.items():
            if not run_id:
                continue
            about = [text for text in told if run_id in text]
            finding.told += bool(about)
            versions = self.archive.versions_of_day(day)
            for client in self.clients:
                finding.things += 1
                count = versions.get(archive.key_of(client, day), 0)
                if not count and not about:
                    finding.lost.append(f"client {client} of {day}: neither archived nor told")
                if count > 1:
                    finding.forbidden.append(f"client {client} of {day}: {count} versions of one answer")
        return finding

    def _orders(self, told: Sequence[str]) -> Finding:
        finding = Finding()
        for run_id in self.load.auctions:
            about = [text for text in told if run_id in text]
            stored = self.results.stored(run_id, len(ORDERS))
            if not stored and any("no order was processed" in text or "run failed" in text for text in about):
                # Its results could not be had in time, and people know.
                finding.told += 1
                continue
            for index, order in enumerate(ORDERS):
                finding.things += 1
                alerts = sum(f"order {index} " in text for text in about)
                finding.told += bool(alerts)
                finding.told_again += max(alerts - 2, 0)
                if stored.get(index, 0) > 1 or (stored.get(index) and order["status"] == "rejected"):
                    finding.forbidden.append(f"order {index} of {run_id} was stored {stored[index]} times")
                if not stored.get(index) and not alerts:
                    finding.lost.append(f"order {index} of {run_id}: neither stored nor told")
        return finding

    def _batches(self) -> Finding:
        finding = Finding()
        for file, refused in self.load.files:
            receipt, taken = self.files.receipt(file), self.files.taken(file)
            dead = receipt["batches_dead_lettered"]
            finding.things += len(file.batches)
            finding.told += dead
            finding.doubled += sum(times > 1 for times in taken)
            missing = taken.count(0)
            if (
                receipt["records_read"] != len(file.records)
                or receipt["problems"]
                or missing > dead
                or dead < len(refused)
            ):
                finding.lost.append(f"{file.key}: {missing} of {len(taken)} batches never came, {dead} dead letters")
        return finding

    def _arrivals(self) -> Finding:
        finding = Finding(things=len(self.load.events))
        by_owner: defaultdict[str, list[str]] = defaultdict(list)
        for event_id, owner in self.load.events:
            by_owner[owner.name].append(event_id)
        for owner in self._owners:
            arrived = Counter(self.events.arrived(owner))
            for event_id in by_owner[owner.name]:
                status, times = self.events.event(event_id)["status"], arrived[event_id]
                if status != "delivered" or not times:
                    finding.lost.append(f"event {event_id} of {owner.name} is {status} and arrived {times} times")
                finding.doubled += times > 1
        return finding

    def _evidence(self) -> Finding:
        findings, read = Verification(self.stack.aws("s3"), self.archive.name).run()
        wrong = [found for found in findings if found.kind != "not selected"]
        return Finding(things=sum(read.values()), lost=[f"{found.where}: {found.kind}" for found in wrong])

    def left_over(self) -> list[str]:
        """Tasks that still run, and permits that are still held, when all has come to rest."""
        tasks = [f"task {name} still runs" for name in running_tasks(self.stack) if "<idle>" not in name]
        table = ItemTable(self.stack.aws("dynamodb"), self.stack.ingest_ledger_table)
        in_use = permits_in_use(table, time.time())
        return tasks + ([f"{in_use} permits are still held"] if in_use else [])

    def recovery(self) -> dict[str, list[float]]:
        """Seconds from each fault to the end of the first run that began afterwards and succeeded, by kind."""
        ended = [
            (datetime.fromisoformat(run["start_date"]).timestamp(), datetime.fromisoformat(run["end_date"]).timestamp())
            for dag in _DAGS
            for run in self.airflow.runs(dag)
            if run["state"] == "success"
        ]
        found = defaultdict(list)
        for fault in self.faults:
            if after := [end for begun, end in ended if begun >= fault.at]:
                found[fault.kind].append(min(after) - fault.at)
        return dict(found)


_DAGS = (archive.DAG_ID, auction.DAG_ID, call_details.WATCH_DAG_ID, call_details.DAG_ID, delivery.DAG_ID)


def _etag(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def report(campaign: Campaign, findings: dict[str, Finding], stuck: list[str], console: Console) -> bool:
    """Print the figures; whether all is as it must be."""
    recovery = campaign.recovery()
    faults = Table("faults", "number", "tasks under way", "s to recover, median", "worst", title="Faults")
    for kind, number in Counter(fault.kind for fault in campaign.faults).most_common():
        seconds = recovery.get(kind, [])
        under_way = sum(fault.under_way for fault in campaign.faults if fault.kind == kind)
        shown = (f"{median(seconds):.0f}", f"{max(seconds):.0f}") if seconds else ("-", "-")
        faults.add_row(kind, str(number), str(under_way), *shown)
    console.print(faults)
    things = Table("what", "number", "lost", "doubled, allowed", "doubled, forbidden", "told", title="Reconciliation")
    for name, found in findings.items():
        numbers = (found.things, len(found.lost), found.doubled, len(found.forbidden) + found.told_again, found.told)
        things.add_row(name, *map(str, numbers))
    console.print(things)
    wrong = [*stuck, *(text for found in findings.values() for text in (*found.lost, *found.forbidden))]
    wrong += [
        f"{found.told_again} alerts too many about {name}" for name, found in findings.items() if found.told_again
    ]
    for text in wrong[:50]:
        console.print(f"WRONG: {text}", markup=False, soft_wrap=True)
    return not wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign on a stack of its own; returns 0 if nothing was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long there are faults (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of load and faults (default: 1)")
    options = parser.parse_args(argv)
    console, began = Console(highlight=False, width=110), time.monotonic()

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {text}", markup=False, soft_wrap=True)

    with tempfile.TemporaryDirectory() as directory:
        stack_options = StackOptions(state_directory=Path(directory) / "stack", airflow_options=AIRFLOW_OPTIONS)
        with running_stack(stack_options) as stack:
            campaign = Campaign(stack, Path(directory), seed=options.seed, tell=tell)
            campaign.run(options.minutes * 60)
            stuck = campaign.wait_until_quiet()
            tell("quiet" if not stuck else f"{len(stuck)} things did not come to rest")
            sound = report(campaign, campaign.reconcile(), [*stuck, *campaign.left_over()], console)
    load = os.getloadavg()[0]
    console.print(f"seed {options.seed}, {options.minutes:g} minutes of faults, load average at the end {load:.1f}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
