"""The events API as its users call it, and their webhooks, which are receivers of the partner stubs."""

import itertools
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from lambdas.common.aws import timestamp
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import EventStore
from lambdas.tools.api_keys import KeyTable
from lambdas.tools.subscriptions import SubscriptionTable
from local.stack.description import Stack
from tests.worlds.live.auction import PAYLOAD
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.waiting import wait_until

DAG_ID, SELECT_TASK, DELIVER_TASK = "event_delivery", "select_due", "deliver"

Rule = dict[str, Any]
Arrival = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """Somebody who uses the API, and has one webhook."""

    name: str
    key: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def path(self) -> str:
        """Where its webhook lies on the partner stubs."""
        return f"/receivers/{self.name}"

    def rule(self, **fault: Any) -> Rule:
        """A fault of its webhook."""
        return {"path": self.path, **fault}


class Delivery:
    """Makes owners, posts events as they do, and reads what became of them."""

    def __init__(self, stack: Stack, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.owners: list[Owner] = []
        self._stack = stack
        self._http = httpx.Client(timeout=30)
        self._dynamodb, self._sqs = stack.aws("dynamodb"), stack.aws("sqs")
        self._dead: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self._http.close()

    def owner(self, name: str) -> Owner:
        """A new owner, whose webhook checks signatures."""
        now = timestamp(datetime.now(UTC))
        name = f"{name}-{next(self._numbers)}"
        key = KeyTable(self._dynamodb, self._stack.api_keys_table).create(name, None, now)
        table = SubscriptionTable(self._dynamodb, self._stack.subscriptions_table)
        secret = table.put(name, f"{self._stack.partners_url}/receivers/{name}", None, now)
        assert secret is not None
        self._http.put(f"{self._stack.partners_url}/control/receivers", json={name: secret}).raise_for_status()
        self.owners.append(Owner(name, key, secret))
        return self.owners[-1]

    def call(self, owner: Owner, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {owner.key}"}
        return self._http.request(method, f"{self._stack.events_api_url}{path}", headers=headers, **options)

    def post(self, owner: Owner) -> str:
        event = {"event_type": "order.placed", "payload": {"note": PAYLOAD}, "metadata": {"note": PAYLOAD}}
        answer = self.call(owner, "POST", "/events", json=event)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return str(answer.json()["event_id"])

    def keep(self, owner: Owner) -> str:
        """Keep an event as the API does when the queue is out of reach: nobody is woken; returns its id."""
        now = timestamp(datetime.now(UTC))
        event = Event(random_id(), owner.name, "order.placed", "{}", None, None, Status.PENDING, now, 0, now)
        assert EventStore(self._dynamodb, self._stack.events_table).put(event) is None
        return event.event_id

    def event(self, event_id: str) -> dict[str, Any]:
        """The attributes of an event as the table has them now, and what its owner's lane says of it."""
        found = self._dynamodb.get_item(
            TableName=self._stack.events_table, Key={"event_id": {"S": event_id}}, ConsistentRead=True
        )["Item"]
        attributes = {name: int(value["N"]) if "N" in value else value["S"] for name, value in found.items()}
        if "owner_status" not in found:
            event = EventStore(self._dynamodb, self._stack.events_table).get(attributes["owner"], event_id)
            attributes |= {name: value for name, value in asdict(event).items() if value is not None}
        return attributes

    def wait_for(self, status: str, *event_ids: str) -> None:
        wait_until(
            lambda: {self.event(event_id)["status"] for event_id in event_ids} == {status},
            what=f"{', '.join(event_ids)} {status}",
        )

    def subscription(self, owner: Owner) -> dict[str, Any]:
        """The owner's subscription as its table has it, but for the secret."""
        return dict(SubscriptionTable(self._dynamodb, self._stack.subscriptions_table).get(owner.name))

    def arrivals(self, receiver: str) -> list[Arrival]:
        """What arrived at a receiver, in this order, whatever it answered."""
        asked = {"receiver": receiver}
        answer = self._http.get(f"{self._stack.partners_url}/journal/receivers", params=asked).raise_for_status()
        return answer.json()["arrivals"]

    def arrived(self, owner: Owner) -> list[str]:
        """The events that arrived at the owner's webhook, in this order; every one was signed with its secret."""
        found = self.arrivals(owner.name)
        assert [each["verified"] for each in found] == [True] * len(found)
        return [each["webhook_id"] for each in found]

    def wait_for_arrival(self, event_id: str, owner: Owner) -> None:
        """Wait until an event has arrived."""
        wait_until(lambda: event_id in self.arrived(owner), what=f"the arrival of {event_id}")

    def dead_letters(self, event_id: str) -> list[dict[str, Any]]:
        """The messages about an event that the dead-letter queue has ever had."""
        queue = self._stack.event_dlq_url
        while messages := self._sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._dead.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [letter for letter in self._dead if letter["event_id"] == event_id]

    def task_of(self, owner: Owner) -> dict[str, Any]:
        airflow = self.pipeline.airflow
        running = [run["dag_run_id"] for run in airflow.runs(DAG_ID) if run["state"] == "running"]
        for run_id in running:
            tasks = {task["map_index"]: task for task in self.pipeline.tasks(run_id) if task["task_id"] == DELIVER_TASK}
            shares = airflow.xcom(DAG_ID, run_id, SELECT_TASK) if -1 not in tasks else []
            for index, owners in enumerate(shares):
                if owner.name in owners and tasks[index]["state"] == "running":
                    return tasks[index]
        raise AssertionError(f"no task is delivering to {owner.name}")
