"""An SQS queue in memory, with receipts and a visibility that ends when a test says so."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUEUE_URL = "https://sqs.test/000000000000/call-details-dlq-test"


@dataclass
class _Message:
    body: str
    hidden: bool = False
    receipts: int = 0


class FakeSqs:
    """Quacks like a boto3 SQS client with one queue; ``before[operation]`` is called before each such call."""

    def __init__(self) -> None:
        self.messages: dict[str, _Message] = {}
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}
        self.extended_to: list[int] = []
        self._sent = 0
        self._lock = threading.RLock()

    @property
    def bodies(self) -> list[str]:
        """What is in the queue, hidden or not."""
        return [message.body for message in self.messages.values()]

    @property
    def visible(self) -> int:
        """How many messages the next reader could receive."""
        return sum(not message.hidden for message in self.messages.values())

    def show_all(self) -> None:
        """End all visibility time-outs."""
        for message in self.messages.values():
            message.hidden = False

    def send_message(self, **request: Any) -> dict[str, Any]:
        with self._enter("send_message", request):
            self._sent += 1
            self.messages[f"m{self._sent}"] = _Message(request["MessageBody"])
            return {"MessageId": f"m{self._sent}"}

    def receive_message(self, **request: Any) -> dict[str, Any]:
        assert 1 <= request["MaxNumberOfMessages"] <= 10
        assert request.get("VisibilityTimeout", 30) > 0
        with self._enter("receive_message", request):
            visible = [(name, each) for name, each in self.messages.items() if not each.hidden]
            answer = []
            for name, each in visible[: request["MaxNumberOfMessages"]]:
                each.hidden = True
                each.receipts += 1
                answer.append({"MessageId": name, "ReceiptHandle": f"{name}/{each.receipts}", "Body": each.body})
            return {"Messages": answer} if answer else {}

    def get_queue_attributes(self, **request: Any) -> dict[str, Any]:
        with self._enter("get_queue_attributes", request):
            hidden = len(self.messages) - self.visible
            numbers = {"ApproximateNumberOfMessages": self.visible, "ApproximateNumberOfMessagesNotVisible": hidden}
            return {"Attributes": {name: str(number) for name, number in numbers.items()}}

    def delete_message(self, **request: Any) -> dict[str, Any]:
        with self._enter("delete_message", request):
            self.messages.pop(request["ReceiptHandle"].partition("/")[0], None)
            return {}

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        with self._enter("delete_message_batch", request):
            for entry in entries:
                self.messages.pop(entry["ReceiptHandle"].partition("/")[0], None)
            return {"Successful": [], "Failed": []}

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        with self._enter("change_message_visibility_batch", request):
            for entry in entries:
                message = self.messages.get(entry["ReceiptHandle"].partition("/")[0])
                if message is not None:
                    message.hidden = entry["VisibilityTimeout"] > 0
                    self.extended_to.append(entry["VisibilityTimeout"])
            return {"Successful": [], "Failed": []}

    def _enter(self, operation: str, request: dict[str, Any]) -> threading.RLock:
        assert request["QueueUrl"] == QUEUE_URL
        self.calls[operation] += 1
        self.before.get(operation, lambda: None)()
        return self._lock
