"""What became of everything that a campaign asked for, read past the proxy and past the pipelines' own words."""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from include.call_details.ledger import Claims
from include.call_details.rate_limit import permits_in_use
from include.clients.dynamodb import ItemTable
from include.delivery.ledger import Lane, lane_key
from include.outbox import PREFIX as UNDELIVERED
from ops.evidence import Verification
from tests.chaos.campaign import ORDERS, TROUBLE, Campaign
from tests.worlds.live import archive, auction, call_details, delivery
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.processes import running_tasks

_PROGRESS_OF = dict.fromkeys((call_details.WATCH_DAG_ID, call_details.REPLAY_DAG_ID), call_details.DAG_ID)
"""Whose progress shows that a DAG goes on which makes none itself."""

_SHOWN = 10
"""Of a kind of findings."""

_TASK_SECONDS = 120.0
"""Longer than a task takes that runs when all is quiet."""

_HIDDEN = "ApproximateNumberOfMessagesNotVisible"

WAITING = (archive.DAG_ID, auction.DAG_ID, call_details.DAG_ID, call_details.REPLAY_DAG_ID)


@dataclass
class Finding:
    """What became of one kind of things.

    Args:
        things: how many there were.
        lost: each neither done nor told.
        doubled: done twice where the contract allows it.
        forbidden: each done twice, or in another way, where it does not.
        told: of how many people were told.
        again: alerts that came once more, by channel.
    """

    things: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: int = 0
    forbidden: list[str] = field(default_factory=list)
    told: int = 0
    again: Counter[int] = field(default_factory=Counter)

    def tell(self, *channels: Sequence[str]) -> bool:
        """Count the alerts of one thing by channel; whether there is any."""
        self.told += any(channels)
        self.again.update({channel: max(len(texts) - 1, 0) for channel, texts in enumerate(channels)})
        return any(channels)


class Reconciliation:
    """Waits until nothing is under way any more, and accounts for the load of a campaign."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign, self._stack = campaign, campaign.stack
        self._settled: dict[str, str] = {}
        self._ledger = ItemTable(campaign.stack.aws("dynamodb"), campaign.stack.ingest_ledger_table)
        self._s3 = campaign.stack.aws("s3")

    # ---- quiet ------------------------------------------------------------------------------------------------

    def wait_until_quiet(self, patience: float) -> list[str]:
        """What is still under way after so many seconds; nothing, if all came to rest."""
        deadline, told = time.monotonic() + patience, 0.0
        while True:
            self._campaign.check_stack()
            try:
                # What the others may wait for is asked last, when these are at rest, and told first: not all are shown.
                left = list(self._under_way())[::-1]
            except TROUBLE as error:
                left = [f"no answer: {error}"]
            if not left or time.monotonic() > deadline:
                return left
            if time.monotonic() - told > 60:
                self._campaign.tell(f"{len(left)} things are under way, such as: {left[0]}")
                told = time.monotonic()
            time.sleep(3)

    def _under_way(self) -> Iterator[str]:
        campaign = self._campaign
        for dag in WAITING:
            active = {"state": ["queued", "running"], "limit": 100}
            for run in campaign.airflow.request("GET", f"/dags/{dag}/dagRuns", params=active)["dag_runs"]:
                yield f"run {run['dag_run_id']} of {dag} is {run['state']}"
        receipts = set(campaign.files.keys("receipts/"))
        for file, _ in campaign.load.files:
            if f"receipts/{file.key}.{file.etag}.json" not in receipts:
                yield f"{file.key} has no receipt"
        yield from (f"{key} was not taken" for key in campaign.files.keys("incoming/"))
        for event_id, _ in campaign.load.events:
            if event_id not in self._settled:
                status = campaign.events.event(event_id)["status"]
                if status == "pending":
                    yield f"event {event_id} is pending"
                else:
                    self._settled[event_id] = status
        yield from (f"lane of {lane.owner} has an owner" for lane in self._lanes() if lane.lease_owner)
        yield from (
            f"{key} is not delivered yet" for key, _ in self._written(self._stack.order_results_bucket, UNDELIVERED)
        )
        asked = {"QueueUrl": self._stack.call_details_dlq_url, "AttributeNames": [_HIDDEN]}
        hidden = int(self._stack.aws("sqs").get_queue_attributes(**asked)["Attributes"][_HIDDEN])
        if hidden:
            yield f"{hidden} dead letters are hidden by a replay"
        if in_use := permits_in_use(self._ledger, time.time()):
            yield f"{in_use} permits are held"

    def _lanes(self) -> Iterator[Lane]:
        dynamodb = self._stack.aws("dynamodb")
        for owner in self._campaign.events.owners:
            key = {"event_id": {"S": lane_key(owner.name)}}
            answer = dynamodb.get_item(TableName=self._stack.events_table, Key=key, ConsistentRead=True)
            if "Item" in answer:
                yield Lane.of(answer["Item"])

    def left_over(self) -> list[str]:
        """Tasks that do not end, and claims that are not completed, when all has come to rest."""
        # The delivery and the watcher go on, with new tasks all the time.
        tasks, deadline = self._tasks(), time.monotonic() + _TASK_SECONDS
        while (tasks := tasks & self._tasks()) and time.monotonic() < deadline:
            time.sleep(1)
        left = [f"task {name} still runs" for name in tasks]
        known = {
            file.key
            for file, _ in self._campaign.load.files
            if (self._receipt(file) or {}).get("outcome") == "incomplete"
        }
        claims, _ = Claims(self._ledger).under_way(100)
        return left + [f"claim of {claim.file.key} is left" for claim in claims if claim.file.key not in known]

    def _tasks(self) -> set[str]:
        return {name for name in running_tasks(self._stack) if "<idle>" not in name}

    # ---- accounts ---------------------------------------------------------------------------------------------

    def findings(self) -> dict[str, Finding]:
        """What became of everything, by kind."""
        inbox = Inbox(self._stack)
        channels = inbox.sns(), inbox.slack()
        found = {
            "answers archived": self._answers(channels),
            "orders": self._orders(channels),
            "batches of records": self._batches(channels),
            "events": self._arrivals(channels),
        }
        again = sum((each.again for each in found.values()), Counter[int]())
        return {**found, "alerts": self._alerts(channels, again), "evidence": self._evidence()}

    def _alerts(self, channels: Sequence[Sequence[str]], again: Counter[int]) -> Finding:
        """An alert comes again where its channel's answer was lost, or its sender."""
        campaign = self._campaign
        lost_senders = sum("stood still" in fault.kind or "killed" in fault.kind for fault in campaign.faults)
        lost_answers = (
            sum(number for (service, _), number in campaign.aws.spoilt.items() if service == "sns"),
            sum("rule" in call for call in campaign.partners.calls("/slack")),
        )
        finding = Finding(sum(map(len, channels)), doubled=again.total())
        for channel, lost in enumerate(lost_answers):
            if again[channel] > lost + lost_senders:
                finding.forbidden.append(f"{again[channel]} alerts came again, for {lost} lost answers")
        return finding

    def _answers(self, channels: Sequence[Sequence[str]]) -> Finding:
        finding, campaign = Finding(), self._campaign
        versions = Counter(key for key, _ in self._written(self._stack.archive_bucket, "trigger/", versions=True))
        for day, run_id in campaign.load.days.items():
            about = [_about(texts, run_id) for texts in channels]
            told = finding.tell(*about)
            failed: set[int] | None = None
            if (manifest := self._manifest(day)) is not None:
                failed = {error["client_id"] for error in manifest["errors"]}
            elif not any("no client was archived" in text for texts in about for text in texts):
                finding.lost.append(f"the manifest of {day}")
            for client in campaign.clients:
                finding.things += 1
                count = versions[archive.key_of(client, day)]
                if not count and not (told and (failed is None or client in failed)):
                    finding.lost.append(f"client {client} of {day}: neither archived nor told")
                if count > 1:
                    finding.forbidden.append(f"client {client} of {day}: {count} versions of one answer")
        return finding

    def _orders(self, channels: Sequence[Sequence[str]]) -> Finding:
        finding, bucket = Finding(), self._stack.order_results_bucket
        versions = Counter(key.rpartition("/")[2] for key, _ in self._written(bucket, "orders/", versions=True))
        runs = {key.split("/")[4] for key, _ in self._written(bucket, "runs/") if key.endswith("/orders.json")}
        summaries = {key.rpartition("/")[2] for key, _ in self._written(bucket, "summaries/")}
        for run_id in self._campaign.load.auctions:
            about = [_about(texts, run_id) for texts in channels]
            if run_id not in runs:
                # Its results could not be had in time, which its summary says.
                if not finding.tell(*about) and f"{run_id}.json" not in summaries:
                    finding.lost.append(f"auction {run_id}: no results, and nobody was told")
                continue
            for index, order in enumerate(ORDERS):
                finding.things += 1
                what = f"order {index} of {run_id}"
                told = finding.tell(*([text for text in texts if f"order {index} " in text] for texts in about))
                count = versions[f"order_{auction.order_id(run_id, index)}.json"]
                if count > 1 or (count and order["status"] == "rejected"):
                    finding.forbidden.append(f"{what} was stored {count} times")
                if not count and not told:
                    finding.lost.append(f"{what}: neither stored nor told")
        return finding

    def _batches(self, channels: Sequence[Sequence[str]]) -> Finding:
        finding, campaign = Finding(), self._campaign
        dead = {letter["idempotency_key"] for letter in campaign.files.dead_letters()}
        for file, _ in campaign.load.files:
            told = finding.tell(*(_about(texts, file.key) for texts in channels))
            taken = campaign.files.taken(file)
            finding.things += len(taken)
            if (receipt := self._receipt(file)) is None:
                finding.lost.append(f"{file.key} has no receipt")
                continue
            finding.doubled += sum(times > 1 for times in taken)
            if receipt["outcome"] == "incomplete" and told:
                continue
            if receipt["records_read"] != len(file.records) or receipt["problems"]:
                finding.lost.append(f"{file.key}: {receipt['records_read']} of {len(file.records)} records read")
            for number, (key, times) in enumerate(zip(file.batch_keys, taken, strict=True)):
                if not times and key not in dead:
                    finding.lost.append(f"batch {number} of {file.key}: neither accepted nor a dead letter")
        return finding

    def _arrivals(self, channels: Sequence[Sequence[str]]) -> Finding:
        finding, events = Finding(things=len(self._campaign.load.events)), self._campaign.events
        accepted, known = Counter[str](), {event_id for event_id, _ in self._campaign.load.events}
        for owner in events.owners:
            arrivals = events.arrivals(owner.name)
            assert all(each["verified"] for each in arrivals)
            came = [each["webhook_id"] for each in arrivals if each["accepted"] and each["webhook_id"] in known]
            accepted.update(came)
            posted = [event_id for event_id, of in self._campaign.load.events if of is owner and event_id in accepted]
            if list(dict.fromkeys(came)) != posted:
                finding.forbidden.append(f"events of {owner.name} came in another order than they were posted")
        for event_id, owner in self._campaign.load.events:
            status, times = events.event(event_id)["status"], accepted[event_id]
            what = f"event {event_id} of {owner.name}"
            told = finding.tell(*(_about(texts, event_id) for texts in channels))
            if status == "failed" and not told and not events.dead_letters(event_id):
                finding.lost.append(f"{what}: failed, and neither told nor a dead letter")
            if status == "delivered" and not times:
                finding.lost.append(f"{what}: delivered, and its receiver has not accepted it")
            if status not in ("delivered", "failed"):
                finding.lost.append(f"{what} is {status}")
            finding.doubled += times > 1
        return finding

    def _evidence(self) -> Finding:
        findings, read = Verification(self._s3, self._stack.archive_bucket).run()
        # What was stored before the first run of all had its entry counts as older than the ledger.
        added = {found.where.partition(" ")[0] for found in findings if found.kind in ("added", "unproven")}
        if late := [day for day in self._campaign.load.days if added and added & self._told_as_failed(day)]:
            for day in late:
                self._campaign.archive_again(day)
            findings, read = Verification(self._s3, self._stack.archive_bucket).run()
        wrong = [found for found in findings if found.kind != "not selected"]
        return Finding(things=sum(read.values()), lost=[f"{found.where}: {found.kind}" for found in wrong])

    def _told_as_failed(self, day: date) -> set[str]:
        """Keys of a day's answers of whose clients people were told that they failed.

        They archive the day again, as EVIDENCE.md says: a task that was given up for dead may have stored an answer
        after its run's summary.
        """
        manifest = self._manifest(day) or {"errors": []}
        return {archive.key_of(error["client_id"], day) for error in manifest["errors"]}

    def _manifest(self, day: date) -> dict[str, Any] | None:
        try:
            return self._campaign.archive.manifest(day)
        except self._s3.exceptions.NoSuchKey:
            return None

    def _receipt(self, file: call_details.File) -> dict[str, Any] | None:
        try:
            return self._campaign.files.receipt(file)
        except self._s3.exceptions.NoSuchKey:
            return None

    def _written(self, bucket: str, prefix: str, *, versions: bool = False) -> Iterator[tuple[str, float]]:
        """Key and time of each object below a prefix, or of each of its versions."""
        name, entries = ("list_object_versions", "Versions") if versions else ("list_objects_v2", "Contents")
        for page in self._s3.get_paginator(name).paginate(Bucket=bucket, Prefix=prefix):
            yield from ((item["Key"], item["LastModified"].timestamp()) for item in page.get(entries, []))

    # ---- recovery ---------------------------------------------------------------------------------------------

    def recovery(self) -> dict[str, list[float]]:
        """Seconds from the beginning of each fault to the next progress after its end, by kind of fault.

        Of the pipeline that it met, or of the last one to go on if it met all. The load has pauses too.
        """
        progress = {dag: sorted(times) for dag, times in self._progress().items()}
        found: defaultdict[str, list[float]] = defaultdict(list)
        for fault in self._campaign.faults:
            pipeline = _PROGRESS_OF.get(str(fault.pipeline), fault.pipeline)
            pipelines = [pipeline] if pipeline in progress else list(progress)
            after = [next(iter(progress[dag][bisect_left(progress[dag], fault.until) :]), None) for dag in pipelines]
            if known := [at for at in after if at is not None]:
                found[fault.kind].append(max(known) - fault.at)
        return found

    def _progress(self) -> dict[str, list[float]]:
        campaign = self._campaign
        posts = [call for call in campaign.partners.calls(call_details.BATCHES) if call["status"] in (200, 201, 202)]
        arrivals = [each for owner in campaign.events.owners for each in campaign.events.arrivals(owner.name)]
        return {
            archive.DAG_ID: [at for _, at in self._written(self._stack.archive_bucket, "trigger/")],
            auction.DAG_ID: [at for _, at in self._written(self._stack.order_results_bucket, "orders/")],
            call_details.DAG_ID: [datetime.fromisoformat(call["at"]).timestamp() for call in posts],
            delivery.DAG_ID: [each["at"] for each in arrivals if each["accepted"]],
        }


def _about(texts: Sequence[str], what: str) -> list[str]:
    return [text for text in texts if what in text]


def report(campaign: Campaign, reconciliation: Reconciliation, stuck: Sequence[str], console: Console) -> bool:
    """Print the figures; whether all is as it must be."""
    findings, recovery = reconciliation.findings(), reconciliation.recovery()
    faults = Table("faults", "number", "tasks under way", "s to recover, median", "worst", title="Faults")
    for kind, number in Counter(fault.kind for fault in campaign.faults).most_common():
        seconds = recovery.get(kind, [])
        under_way = sum(fault.under_way for fault in campaign.faults if fault.kind == kind)
        shown = (f"{median(seconds):.0f}", f"{max(seconds):.0f}") if seconds else ("-", "-")
        faults.add_row(kind, str(number), str(under_way), *shown)
    console.print(faults)
    headings = ("what", "number", "lost", "doubled, allowed", "doubled, forbidden", "told", "told again")
    things = Table(*headings, title="Reconciliation")
    for name, found in findings.items():
        told = (found.told, found.again.total())
        numbers = (found.things, len(found.lost), found.doubled, len(found.forbidden), *told)
        things.add_row(name, *map(str, numbers))
    console.print(things)
    accounts = [texts for found in findings.values() for texts in (found.lost, found.forbidden)]
    wrong = [stuck, reconciliation.left_over(), *accounts]
    for texts in wrong:
        for text in texts[:_SHOWN]:
            console.print(f"WRONG: {text}", markup=False, soft_wrap=True)
        if len(texts) > _SHOWN:
            console.print(f"WRONG: and {len(texts) - _SHOWN} more like the last one")
    return not any(wrong)
