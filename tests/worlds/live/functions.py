"""Lambda functions that play a part, and keep a journal of who called them."""

from pathlib import Path
from typing import Any

from local.stack.description import Stack
from tests.worlds.functions import AdHocFunction

_AUCTION = """
import os

def handler(event, context):
    turn = note(event)
    step = PART["steps"][min(turn, len(PART["steps"]) - 1)]
    time.sleep(step.get("sleep", 0))
    if step.get("die"):
        os._exit(1)
    if "raise" in step:
        raise RuntimeError(step["raise"])
    return step["answer"]
"""

_EXCHANGE = """
import os
import boto3

def calls_for(order):
    with open(PART["journal"]) as journal:
        return sum(json.loads(line)["event"]["order_id"] == order["order_id"] for line in journal)

def handler(order, context):
    note(order)
    in_trouble = order.get("trouble") if calls_for(order) <= order.get("times", 1) else None
    if in_trouble == "before the write":
        raise RuntimeError("the exchange is out of reach")
    answer = boto3.client("lambda").invoke(FunctionName=PART["real"], Payload=json.dumps(order))
    result = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise RuntimeError(result["errorMessage"])
    if in_trouble == "killed after the write":
        os._exit(1)
    return result
"""


class Functions:
    """Creates functions on the stack's emulator."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.client = stack.aws("lambda")
        self._real = stack.auction_order_function
        self._directory = directory

    def auction(self, *steps: dict[str, Any], timeout: int = 10) -> AdHocFunction:
        """A Lambda A that plays one step a call, the last one for ever.

        Args:
            steps: ``{"answer": ...}``, ``{"raise": "text"}`` or ``{"die": True}``, each perhaps after ``"sleep"``
                seconds.
            timeout: of the function, in seconds.
        """
        return AdHocFunction(self.client, self._directory, _AUCTION, timeout=timeout, steps=steps)

    def exchange(self) -> AdHocFunction:
        """A Lambda B that has the real one do the work, and gets into the trouble that an order asks for.

        The first ``times`` calls (1) for an order with ``trouble`` fail: ``"before the write"``, or
        ``"killed after the write"`` and before the answer.
        """
        return AdHocFunction(self.client, self._directory, _EXCHANGE, timeout=30, real=self._real)
