"""A month of days, auctions, files and owners, for a look at the operations page (``make up SAMPLE=month``).

Written by the pipelines' own code, as their runs would have: with failures, answers that changed, empty ones, a client
that joined late, a day without a run, rejected orders, dead letters, and webhooks that are down. The same month each
time. Airflow knows no run of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, cast

from botocore import xform_name

from include.archive.manifests import record_run
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, read_response
from include.archive.store import ArchiveStore
from include.auction.keys import order_id
from include.auction.models import OrderOutcome, Summary
from include.auction.models import Result as OrderResult
from include.call_details.dead_letters import DeadLetter, DeadLetters
from include.call_details.keys import processed_key, receipt_key, run_id
from include.call_details.models import FileVersion
from include.clients.s3 import put_json
from include.delivery.models import timestamp
from local.sample.client_database import company_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.clients.signed import SignedClient
    from local.stack.description import Stack

DAYS = 30
_CLIENTS = [(1000 + number, company_name(number)) for number in range(24)]
_WITHOUT_RUN = 9
_ALL_FAIL = 17
"""Days before the last one."""


def fill_stack(stack: Stack, now: datetime) -> None:
    """Fill the stack's buckets, tables and queue with the month that ends the day before ``now``, an aware time."""
    s3, dynamodb, chance = stack.aws("s3"), stack.aws("dynamodb"), random.Random(1)
    yesterday = now.astimezone(UTC).date() - timedelta(days=1)
    fill_archive(s3, stack.archive_bucket, _CLIENTS, yesterday, DAYS)
    for back in range(2):
        fill_auctions(s3, stack.order_results_bucket, yesterday + timedelta(days=1 - back), now, chance)
    fill_files(s3, stack.aws("sqs"), stack.ingest_bucket, stack.call_details_dlq_url, now)
    for number, owner in enumerate(("acme", "globex", "initech", "umbrella")):
        fill_owner(dynamodb, stack.subscriptions_table, stack.events_table, owner, number, now)


def fill_auctions(s3: Any, bucket: str, day: date, now: datetime, chance: random.Random) -> None:
    """A summary for each five minutes of a day, up to ``now``."""
    for number in range(288):
        at = datetime.combine(day, time.min, UTC) + timedelta(minutes=5 * number)
        if at > now:
            return
        run = f"scheduled__{at.isoformat()}"
        outcomes = [_order(run, index, chance) for index in range(chance.choice([0, 0, 1, 2, 3, 5]))]
        Summary(run, day, tuple(outcomes)).save(s3, bucket)


def _order(run: str, index: int, chance: random.Random) -> OrderOutcome:
    identity, kind = order_id(run, index), chance.random()
    if kind < 0.03:
        reason = f"function auction-order raised OrderRejectedError: order {identity} was rejected"
        return OrderOutcome(index, identity, OrderResult.REJECTED, reason=reason)
    if kind < 0.035:
        return OrderOutcome(index, identity, OrderResult.ERRORED, reason="function auction-order timed out")
    return OrderOutcome(index, identity, OrderResult.ACCEPTED, key=f"orders/order_{identity}.json")


def fill_files(s3: Any, sqs: Any, bucket: str, queue_url: str, now: datetime) -> None:
    """Files that are done, each with its receipt; of one, two batches are dead letters."""
    letters = DeadLetters(s3, sqs, bucket, queue_url)
    for number in range(12):
        etag = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
        file = FileVersion(bucket, f"incoming/calls {now:%Y-%m-%d} part {number:02d}.jsonl", etag)
        dead = 1000 if number == 5 else 0
        s3.put_object(Bucket=bucket, Key=processed_key(file, now.astimezone(UTC).date()), Body=b'{"call": 1}\n' * 5000)
        receipt = {
            **{"key": file.key, "etag": etag, "run_id": run_id(file), "error": None},
            "outcome": "processed with dead letters" if dead else "processed",
            **{"records_read": 5000, "records_accepted": 5000 - dead, "records_dead_lettered": dead},
        }
        put_json(s3, bucket, receipt_key(file), receipt)
        for batch in range(dead // 500):
            first, failed_at = batch * 500 + 1, now.isoformat(timespec="seconds")
            letter = DeadLetter(file, batch, first, first + 499, "k" * 64, 3, 422, "API answered 422", failed_at)
            letters.save(letter, json.dumps({"records": [{"call": 1}] * 500, "batchSize": 500}).encode())


def fill_owner(dynamodb: Any, subscriptions: str, events: str, owner: str, number: int, now: datetime) -> None:
    """An owner with a webhook and 40 events; the second one's webhook is down, the third one's is off."""
    down, off = number == 1, number == 2
    hook = {"owner": owner, "url": f"https://{owner}.example/hooks", "secret": "whsec_" + "c2FtcGxl" * 4}
    dynamodb.put_item(TableName=subscriptions, Item={**_typed(hook), "active": {"BOOL": not off}})
    for index in range(40):
        created = timestamp(now.timestamp() - 86_400 + index * 2000)
        identity = hashlib.sha256(f"{owner}{index}".encode()).hexdigest()[:32]
        state = ("failed" if index < 10 else "pending") if down else "pending" if off and index > 30 else "delivered"
        attempt = {"time": created, "status": 503 if down else 200, "milliseconds": 40 + index, "cause": None}
        item: dict[str, str | int] = {
            **{"event_id": identity, "owner": owner, "event_type": "order.placed", "payload": '{"order": 1}'},
            **{"status": state, "owner_status": f"{owner}#{state}", "created_at": created, "version": 2},
            **{"position": f"{created}#{identity}", "delivery_attempts": 11 if state == "failed" else 1},
            "attempts": json.dumps([attempt]),
        }
        if down:
            item |= {"last_status": 503, "last_error": "webhook answered 503", "first_failed_at": created}
        item |= (
            {f"{state}_at": created} if state != "pending" else {"next_attempt_at": timestamp(now.timestamp() + 3600)}
        )
        dynamodb.put_item(TableName=events, Item=_typed(item))


def _typed(item: dict[str, str | int] | dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in item.items()}


class _Awaited:
    """A boto3 client that is called as the archive's store calls its own."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    async def call(self, operation: str, **request: Any) -> Any:
        return getattr(self._s3, xform_name(operation))(**request)


def fill_archive(s3: Any, bucket: str, clients: Sequence[tuple[int, str]], last: date, days: int) -> None:
    """Archive so many days, up to the last one, for clients by id and name; ``s3`` is a boto3 client."""
    store = ArchiveStore(cast("SignedClient", _Awaited(s3)), bucket)
    chance = random.Random(1)
    for back in range(days - 1, -1, -1):
        if back == _WITHOUT_RUN:
            continue
        day = last - timedelta(days=back)
        chosen = [Client(*client) for client in clients[: -1 if back > days // 2 else None]]
        run = f"scheduled__{day.isoformat()}T00:30:00+00:00"
        outcomes = [_outcome(store, client.id, day, chance, failing=back == _ALL_FAIL) for client in chosen]
        _finish(s3, bucket, day, run, chosen, outcomes)
        if back % 11 == 3:
            again = chosen[:2]
            run = f"manual__{day.isoformat()}T09:12:00+00:00"
            body = read_response(json.dumps({"triggers": [{"id": 1, "mw": 4.5}], "revised": True}).encode())
            outcomes = [asyncio.run(store.save(client.id, day, body, force=True)) for client in again]
            _finish(s3, bucket, day, run, again, outcomes)


def _outcome(store: ArchiveStore, client: int, day: date, chance: random.Random, *, failing: bool) -> ClientOutcome:
    if failing or chance.random() < 0.03:
        reason = chance.choice(["DEX API answered 503", "DEX API answered 403: the client's credentials are refused"])
        return ClientOutcome(client, Result.FAILED, error=reason, retryable="503" in reason)
    if chance.random() < 0.04:
        return asyncio.run(store.save(client, day, read_response(b"[]"), force=True))
    triggers = [
        {
            "id": hashlib.sha256(f"{client}{day}{number}".encode()).hexdigest()[:12],
            "zone": chance.choice(["NYISO.J", "NYISO.K", "ISONE.CT", "PJM.PSEG"]),
            "from": f"{day}T{13 + number:02d}:00:00-05:00",
            "mw": round(chance.uniform(0.5, 12), 3),
        }
        for number in range(chance.randint(1, 8))
    ]
    body = json.dumps({"clientId": client, "triggerDate": day.isoformat(), "triggers": triggers}).encode()
    return asyncio.run(store.save(client, day, read_response(body), force=True))


def _finish(s3: Any, bucket: str, day: date, run: str, clients: list[Client], outcomes: list[ClientOutcome]) -> None:
    plan = Plan(run, 0, day, force=False, concurrency=1, base_url="", clients=tuple(clients), slices=())
    document = Manifest(plan, tuple(outcomes)).to_document()
    record_run(s3, bucket, document)
