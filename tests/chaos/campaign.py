"""Load on all pipelines of one stack, and faults, both drawn from a seed; what a fault meets is up to the machine."""

import contextlib
import gzip
import hashlib
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from local.clients import AirflowApi
from local.processes.layout import Layout
from local.processes.supervisor import StackError
from local.services.celery import WORKER_NAMES
from local.stack.description import Stack
from tests.chaos.aws import KINDS, SERVICES, AwsProxy, Weather
from tests.worlds.live import archive, auction, call_details, delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.partners import TRIGGER, Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import another, lose, running_tasks, service_of, standing_still
from tests.worlds.live.secrets import Secrets

ORDERS = [{"status": "accepted", "power": power} for power in range(6)] + [{"status": "rejected"}] * 2
CLIENTS = 20
OWNERS = 8
MOST_ATTEMPTS = 5
"""Of one event: the last of them is seen within the campaign."""
MOST_WAITING = 5
"""Runs of a DAG; with more than these the load would grow for as long as a campaign lasts."""
AIM_SECONDS = 30.0
"""So long a fault waits for the task that it is aimed at: one that runs for a second is not there all the time. No
other is harmed instead: it may be one that has to come before."""
_LOOK_SECONDS = 0.1
_AIMED_TASK_SECONDS = 0.4

DAGS = (
    archive.DAG_ID,
    auction.DAG_ID,
    call_details.WATCH_DAG_ID,
    call_details.DAG_ID,
    call_details.REPLAY_DAG_ID,
    delivery.DAG_ID,
)

PARTNER_PATHS = (TRIGGER, "/oauth2/token", call_details.BATCHES, call_details.LOGIN, "/receivers", "/slack")
PARTNER_TROUBLES: tuple[dict[str, Any], ...] = (
    {"status": 503},
    {"status": 429, "headers": {"Retry-After": "2"}},
    {"status": 500, "applied": True},
    {"cut": "before"},
    # Half an answer shows its status: to a webhook that is an acceptance.
    {"cut": "mid", "applied": True},
    {"latency_ms": 3000},
)

A_MINUTE_AHEAD = """import time
import time_machine
time_machine.travel(time.time() + 60, tick=True).start()
"""
"""Run by a process as it starts, and in force in all that it forks. (libfaketime 0.9.10 makes Python's sleeps fail.)"""

FOR_A_WRONG_CLOCK = {
    # For whoever is a minute ahead, all others seem to be dead. Airflow asks for synchronous clocks; the pipelines'
    # leases and fences are to hold without.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "3600",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "3600",
}

TROUBLE = (httpx.HTTPError, StackError, BotoCoreError, ClientError, psutil.Error, KeyError, AssertionError, OSError)
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
    """One fault.

    Args:
        at: when it began, and ``until`` when it ended, in seconds since the epoch.
        pipeline: the DAG that it met, or None if it met all.
        under_way: how many tasks ran.
    """

    at: float
    until: float
    kind: str
    what: str
    pipeline: str | None
    under_way: int


Made = tuple[str, str] | tuple[str, str, str | None] | None
"""Kind, what, and the pipeline; None if there was nothing to harm."""


@dataclass(frozen=True)
class Running:
    """A task that runs; its ids are None if Airflow does not say them."""

    process: psutil.Process
    name: str
    dag_id: str | None = None
    task_id: str | None = None


def drawn(
    chance: random.Random,
    look: Callable[[], list[Running]],
    aim: str | None,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Running | None:
    """A task to harm, if any runs; of the id that is aimed at, for which it is waited so long, if there is one."""
    # One draw, whatever runs: what the seed gives to the faults that follow does not depend on that.
    chance, end = random.Random(chance.random()), clock() + seconds
    if aim is None:
        running = look()
        return chance.choice(running) if running else None
    while clock() < end:
        if not (meant := [task for task in look() if task.task_id == aim]):
            sleep(_LOOK_SECONDS)
            continue
        task = chance.choice(meant)
        # It is seen as it begins; a fault may meet it at any step.
        sleep(chance.uniform(0.0, _AIMED_TASK_SECONDS))
        if task.process.is_running():
            return task
    return None


class Campaign:
    """Load and faults on one stack.

    Args:
        stack: whose services call AWS through ``aws``.
        directory: for journals of functions, and the wrong clock.
        celery: whether tasks run in Celery's workers.
        aim: id of a task, for which the faults of a single task wait some seconds, or a service of AWS: they meet it.
    """

    def __init__(
        self,
        stack: Stack,
        aws: AwsProxy,
        directory: Path,
        *,
        seed: int,
        celery: bool,
        tell: Callable[[str], None],
        aim: str | None = None,
    ) -> None:
        self.stack, self.tell, self.aws, self._celery, self._aim = stack, tell, aws, celery, aim
        self.airflow = AirflowApi(stack)
        self.secrets = Secrets(stack)
        self.partners = Partners(stack, self.secrets)
        self.load, self.faults = Load(), list[Fault]()
        self.chance = {name: random.Random(f"{seed} {name}") for name in ("faults", "files", "events")}
        self._stop, self._background = threading.Event(), list[threading.Thread]()
        self._days = (date(2025, 1, 6) + timedelta(days=number) for number in range(10_000))
        self._pipelines = {dag: Pipeline(dag, self.airflow) for dag in DAGS}
        self.archive = archive.Archive(stack)
        self.results = auction.Results(stack, self._pipelines[auction.DAG_ID])
        self.files = call_details.Ingest(stack, self.partners, self._pipelines[call_details.DAG_ID])
        self.events = delivery.Delivery(stack, self._pipelines[delivery.DAG_ID])
        self.owners = [self.events.owner(f"chaos-{number}") for number in range(OWNERS)]
        self.refuser = self.events.owner("chaos-refuser")
        self._function = Functions(stack, directory).auction({"answer": auction.ready(ORDERS)}).name
        with closing(sqlite3.connect(stack.client_database)) as database:
            query = resources.files("include.sql").joinpath("dex_clients.sql").read_text(encoding="utf-8")
            self.clients = sorted(int(row[0]) for row in database.execute(query))[:CLIENTS]
        self._weather: list[dict[str, Any]] = []
        # For each kind something that is refused for good, so that there is something to tell.
        self._rules: list[dict[str, Any]] = [
            {"match": {"clientId": [str(self.clients[7])]}, "status": 403},
            {"path": self.refuser.path, "status": 500},
        ]
        self._clock = directory / "clock"
        self._clock.mkdir()
        self._clock.joinpath("sitecustomize.py").write_text(A_MINUTE_AHEAD)
        self.secrets.change(stack.settings_variable, max_delivery_attempts=MOST_ATTEMPTS)
        self._send_functions_through(aws)

    def close(self) -> None:
        """Close the connections to Airflow, the partners and the events API."""
        self.airflow.__exit__(None, None, None)
        self.partners.close()
        self.events.close()

    def run(self, seconds: float) -> None:
        """Put load on and make faults for so long."""
        for dag in DAGS:
            self.airflow.unpause(dag)
        self._order()
        paces = ((self._day, 30), (self._auction, 45), (self._file, 8), (self._event, 0.7), (self._replay, 40))
        for work, every in paces:
            self._in_background(self._keep_up, work, every)
        end, chance, deck = time.monotonic() + seconds, self.chance["faults"], self._deck()
        time.sleep(min(15.0, seconds / 4))
        while (left := end - time.monotonic()) > 0:
            self.check_stack()
            self._make(next(deck), chance, left)
            time.sleep(min(chance.uniform(2, 8), max(end - time.monotonic(), 0)))
        self._stop.set()
        self._weather, self.aws.weather = [], ()
        self._order()
        for thread in self._background:
            thread.join(120)
        if not self._celery:
            # LocalExecutor takes back no task whose worker died before it began, however long that is queued
            # (findings/local_executor_keeps_lost_task_queued.sh); a scheduler that begins anew does.
            lose(service_of(self.stack, "scheduler"))

    def check_stack(self) -> None:
        """Raises RuntimeError: the stack has stopped for good, which no fault may bring about."""
        if (failed := Layout(Path(self.stack.logs).parent).failed_file).exists():
            raise RuntimeError(f"the stack has stopped: {json.loads(failed.read_text())['error']}")

    def _in_background(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._background.append(thread)
        thread.start()

    def _send_functions_through(self, aws: AwsProxy) -> None:
        client = self.stack.aws("lambda")
        for page in client.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                variables = function.get("Environment", {}).get("Variables", {}) | {"AWS_ENDPOINT_URL": aws.url}
                client.update_function_configuration(
                    FunctionName=function["FunctionName"], Environment={"Variables": variables}
                )

    # ---- load -------------------------------------------------------------------------------------------------

    def _keep_up(self, work: Callable[[], None], every: float) -> None:
        while not self._stop.wait(every):
            with contextlib.suppress(*TROUBLE):
                work()

    def _day(self) -> None:
        day = next(self._days)
        self.load.days[day] = self._started(archive.DAG_ID, trigger_date=day.isoformat(), client_ids=self.clients)

    def archive_again(self, day: date) -> None:
        """Run the archive once more for all clients of a day, and wait for its end."""
        self._pipelines[archive.DAG_ID].run(trigger_date=day, client_ids=self.clients)

    def _auction(self) -> None:
        self.load.auctions.append(self._started(auction.DAG_ID, function_a=self._function))

    def _replay(self) -> None:
        self._started(call_details.REPLAY_DAG_ID)

    def _started(self, dag: str, **conf: Any) -> str:
        """Start a run under an id of ours, so that a start whose answer was lost is known all the same.

        Raises:
            StackError: many wait already, or none could be started.
        """
        waiting = self.airflow.request("GET", f"/dags/{dag}/dagRuns", params={"state": ["queued"], "limit": 1})
        if waiting["total_entries"] >= MOST_WAITING:
            raise StackError(f"{dag} does not keep up")
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
        chance = self.chance["files"]
        number, records = len(self.load.files), chance.choice([3, 40, 900, 4000, 12_000])
        content = call_details.lines(records, text=f"file {number}")
        name = f"chaos-{number}.txt"
        if number % 3 == 0:
            name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        refused = [0] if number % 5 == 4 else []
        etag = hashlib.md5(content).hexdigest()
        file = call_details.File(self.files.name, f"incoming/{name}", etag, content, 500)
        if refused:
            self._rules.append({"status": 422, **file.rule(*refused)})
            self._order()
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE):
                self.files.s3.put_object(Bucket=self.files.name, Key=file.key, Body=content)
                self.load.files.append((file, refused))
                return
            time.sleep(1)

    def _event(self) -> None:
        number = len(self.load.events)
        # Of a receiver that refuses, one event a minute comes to its end.
        owner = self.refuser if number % 80 == 20 else self.chance["events"].choice(self.owners)
        body = {"event_type": "chaos", "payload": {"n": time.time_ns()}, "idempotency_key": f"k{time.time_ns()}"}
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE):
                answer = self.events.call(owner, "POST", "/events", json=body)
                if answer.status_code in {httpx.codes.CREATED, httpx.codes.OK}:
                    self.load.events.append((answer.json()["event_id"], owner))
                    return
            time.sleep(1)

    # ---- faults -----------------------------------------------------------------------------------------------

    def _deck(self) -> Iterator[Callable[[random.Random, float], Made]]:
        """The faults in an order drawn from the seed; twenty of them are all kinds."""
        cards = [self._kill_task] * 6 + [self._kill_service] * 3 + [self._stand_still] * 2 + [self._aws_trouble] * 4
        cards += [self._partner_trouble] * 2 + [self._messages_again, self._freeze_task, self._wrong_clock]
        while True:
            self.chance["faults"].shuffle(cards)
            yield from cards

    def _make(self, fault: Callable[[random.Random, float], Made], chance: random.Random, left: float) -> None:
        with contextlib.suppress(*TROUBLE):
            running, at = len(self._tasks()), time.time()
            if (made := fault(chance, left)) is not None:
                kind, what, *pipeline = made
                self.faults.append(Fault(at, time.time(), kind, what, pipeline[0] if pipeline else None, running))
                self.tell(f"{kind}: {what} ({running} tasks ran)")

    def _tasks(self) -> dict[str, psutil.Process]:
        return {name: process for name, process in running_tasks(self.stack).items() if "<idle>" not in name}

    def _running(self) -> list[Running]:
        known: dict[str, Any] = {}
        with contextlib.suppress(*TROUBLE):
            asked = {"state": "running", "limit": 100}
            found = self.airflow.request("GET", "/dags/~/dagRuns/~/taskInstances", params=asked)
            known = {task["id"]: task for task in found["task_instances"]}
        return [
            Running(process, f"{task['dag_id']}.{task['task_id']}", task["dag_id"], task["task_id"])
            if (task := known.get(name))
            else Running(process, name)
            for name, process in sorted(self._tasks().items())
        ]

    def _drawn_task(self, chance: random.Random, left: float) -> Running | None:
        aim = None if self._aim in SERVICES else self._aim
        return drawn(chance, self._running, aim, seconds=min(AIM_SECONDS, left))

    def _kill_task(self, chance: random.Random, left: float) -> Made:
        if (task := self._drawn_task(chance, left)) is None:
            return None
        task.process.kill()
        return "task killed", task.name, task.dag_id

    def _freeze_task(self, chance: random.Random, left: float) -> Made:
        """Stop a task for longer than its leases hold: when it goes on, others have taken its work over."""
        seconds = min(chance.choice([65.0, 95.0]), left)
        if (task := self._drawn_task(chance, left)) is None:
            return None

        def freeze() -> None:
            with contextlib.suppress(psutil.Error):
                task.process.suspend()
                time.sleep(seconds)
                task.process.resume()

        self._in_background(freeze)
        return "task stood still", f"{task.name}, {seconds:.0f} s", task.dag_id

    def _kill_service(self, chance: random.Random, left: float) -> Made:
        workers = list(WORKER_NAMES) if self._celery else []
        name = chance.choice(["api-server", "scheduler", "dag-processor", "triggerer", *workers])
        lose(service_of(self.stack, name))
        return "service killed", name

    def _stand_still(self, chance: random.Random, left: float) -> Made:
        name, seconds = chance.choice(["emulator", "postgres"]), min(chance.choice([2, 8, 20, 60]), left / 3)
        with standing_still(service_of(self.stack, name)):
            time.sleep(seconds)
        return "service stood still", f"{name}, {seconds:.0f} s"

    def _wrong_clock(self, chance: random.Random, left: float) -> Made:
        service = "celery worker" if self._celery else chance.choice(["scheduler", "triggerer"])
        seconds = min(60.0, left)
        path = os.pathsep.join([str(self._clock), self.stack.airflow_environment()["PYTHONPATH"]])

        def run() -> None:
            with another(service, self.stack, PYTHONPATH=path, **FOR_A_WRONG_CLOCK) as process:
                self._stop.wait(seconds)
                with contextlib.suppress(psutil.Error):
                    lose(psutil.Process(process.pid))

        self._in_background(run)
        return "clock a minute off", f"one more {service} for {seconds:.0f} s"

    def _aws_trouble(self, chance: random.Random, left: float) -> Made:
        service, kind, share = chance.choice(SERVICES), chance.choice(KINDS), chance.choice([0.2, 0.5])
        weather = Weather(self._aim if self._aim in SERVICES else service, kind, share)
        self.aws.weather = [*self.aws.weather[-2:], weather]
        return "AWS in trouble", f"{weather.service}: {weather.kind}, {weather.share:.0%} of the calls"

    def _messages_again(self, chance: random.Random, left: float) -> Made:
        self.aws.weather = [*self.aws.weather[-2:], Weather("sqs", "again", 1.0)]
        return "messages twice", "SQS, and in another order"

    def _partner_trouble(self, chance: random.Random, left: float) -> Made:
        path, fault, share = chance.choice(PARTNER_PATHS), chance.choice(PARTNER_TROUBLES), chance.choice([0.3, 0.7])
        self._weather = [*self._weather[-2:], {"path": path, "share": share, "seed": chance.randint(1, 99), **fault}]
        self._order()
        return "partner in trouble", f"{path}: {fault}, {share:.0%} of the calls"

    def _order(self) -> None:
        self.partners.order(*self._rules, *self._weather)
