"""One owner's events by status, for people: those with a status of their own, and those of which the lane tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from include.delivery.ledger import Entry, Lane, entries_of, lane_key
from include.delivery.models import Status, attempt_entry, timestamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

_CALLS = 3
_MOST_PASSED = 1_000


class OwnerEvents:
    """What the table of events has of one owner; raises as the boto3 client does.

    An event that appeared late is shown once it is posted.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, owner: str) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._owner = owner
        key: Any = {"event_id": {"S": lane_key(owner)}}
        self._lane = Lane.of(dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", key))

    def count(self, status: Status, most: int) -> str:
        """How many events have a status; with a ``+`` if there are more than ``most``, or than a few calls count."""
        total, complete = 0, True
        for request in self._requests(status, "0", ":"):
            more: Item = {}
            for _ in range(_CALLS):
                found: Any = self._dynamodb.query(**request, Select="COUNT", Limit=most + 1, **more)
                total += int(found["Count"])
                if "LastEvaluatedKey" not in found or total > most:
                    break
                more = {"ExclusiveStartKey": found["LastEvaluatedKey"]}
            else:
                complete = False
        return f"{min(total, most):,}" + "+" * (total > most or not complete)

    def page(self, status: Status, limit: int, after: str = "") -> tuple[list[Item], str | None]:
        """Some events of a status, behind a position if one is given: pending the oldest first, others the newest.

        Returns at most ``limit`` items, as the table would have them if each event had its own status; and the position
        behind which there may be more, if any.
        """
        oldest_first = status is Status.PENDING
        low, high = ("0", ":")
        if after:
            low, high = (f"{after}!", ":") if oldest_first else ("0", after)
        found: list[Item] = []
        ends = []
        for request in self._requests(status, low, high):
            more: Item = {}
            # One more, as the one at `after` is none of them.
            items, size = [], limit + 1
            for _ in range(_CALLS):
                answer: Any = self._dynamodb.query(**request, ScanIndexForward=oldest_first, Limit=size, **more)
                items += [item for item in answer["Items"] if item["position"]["S"] != after]
                if "LastEvaluatedKey" not in answer or len(items) >= limit:
                    break
                # What the filter leaves out, such as events that their owner fetched, does not make a page empty.
                more, size = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}, _MOST_PASSED
            found += items
            if "LastEvaluatedKey" in answer:
                ends.append(answer["LastEvaluatedKey"]["position"]["S"])
        found.sort(key=_at, reverse=not oldest_first)
        if ends:
            # Beyond where one of the listings goes on, events may be missing.
            end = min(ends) if oldest_first else max(ends)
            found = [item for item in found if (_at(item) <= end if oldest_first else _at(item) >= end)]
            if len(found) <= limit:
                return self._applied(found, status), end
        page = found[:limit]
        last = page[-1]["position"]["S"] if len(found) > limit else None
        return self._applied(page, status), last

    def _requests(self, status: Status, low: str, high: str) -> Iterable[Item]:
        yield self._request("by-owner-status", "owner_status", f"{self._owner}#{status.value}", low, high)
        if not self._lane.version or status not in (Status.PENDING, Status.DELIVERED):
            return
        if status is Status.PENDING:
            low = max(low, f"{self._lane.top}!")
        else:
            high = min(high, self._lane.top)
        if low <= high:
            request = self._request("by-owner", "owner", self._owner, low, high)
            yield {**request, "FilterExpression": "attribute_not_exists(owner_status)"}

    def _request(self, index: str, key: str, value: str, low: str, high: str) -> Item:
        return {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#key = :key AND #position BETWEEN :low AND :high",
            "ExpressionAttributeNames": {"#key": key, "#position": "position"},
            "ExpressionAttributeValues": {":key": {"S": value}, ":low": {"S": low}, ":high": {"S": high}},
        }

    def _applied(self, items: list[Item], status: Status) -> list[Item]:
        """The items, and what the lane and its batches tell of those without a status of their own."""
        positions = [item["position"]["S"] for item in items if "owner_status" not in item]
        if not positions:
            return items
        if status is Status.PENDING:
            return [{"next_attempt_at": item["created_at"], **item} for item in items]
        entries = {entry.position: entry for entry in self._lane.entries}
        if set(positions) - set(entries):
            request = self._request("by-owner-status", "owner_status", f"{self._owner}#lane", min(positions), ":")
            found: list[Entry] = []
            # What was accepted is listed in its order; what has no outcome may have appeared late, anywhere.
            while not any(entry.outcome and entry.position >= max(positions) for entry in found):
                batches: Any = self._dynamodb.query(**request, Limit=len(positions))
                found += [entry for item in batches["Items"] for entry in entries_of(item)]
                if "LastEvaluatedKey" not in batches:
                    break
                request["ExclusiveStartKey"] = batches["LastEvaluatedKey"]
            entries |= {entry.position: entry for entry in found}
        outcomes = {position: entry.outcome for position, entry in entries.items() if entry.outcome}
        return [
            item if "owner_status" in item else {**item, **_delivered(outcomes[_at(item)])}
            for item in items
            if "owner_status" in item or _at(item) in outcomes
        ]


def _at(item: Mapping[str, Any]) -> str:
    return str(item["position"]["S"])


def _delivered(outcome: tuple[int, int, int]) -> Item:
    ended_ms, status, milliseconds = outcome
    return {
        "status": {"S": Status.DELIVERED.value},
        "delivery_attempts": {"N": "1"},
        "last_status": {"N": str(status)},
        "delivered_at": {"S": timestamp(ended_ms / 1000)},
        "attempts": {"S": attempt_entry(ended_ms / 1000, status, milliseconds)},
    }
