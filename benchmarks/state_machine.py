"""The baseline: the auction as a Step Functions state machine, over the same functions on the same emulator.

Loop until there are results, Map over the orders, Catch an order's failure and publish it. Built as the original's
description has it, and in its favour: no state logs, no X-Ray, and the poll comes every 2 s (the sensor's first).
"""

from __future__ import annotations

import json
import time
from typing import Any

from botocore.exceptions import ReadTimeoutError

from benchmarks.auction_house import RESULTS_FUNCTION
from benchmarks.bench import BenchmarkError
from benchmarks.cpu import CpuMeter, CpuUse
from local.stack.description import Stack

POLL_SECONDS = 2

# The emulator calls a throttle unknown; it throttles at as many invocations as, by its estimate, fill half the memory.
_THROTTLED = {
    "ErrorEquals": ["Lambda.TooManyRequestsException", "Lambda.Unknown"],
    "IntervalSeconds": 1,
    "BackoffRate": 2,
    "MaxAttempts": 8,
}
_RUN_SECONDS = 600.0
_LOOK_EVERY_SECONDS = 0.5


class StateMachine:
    """A state machine on the stack's emulator.

    Args:
        max_concurrency: of its Map; 0 is the default of Step Functions. AWS then runs up to 40 orders at once, the
            emulator all of them, each in a process of its own.
    """

    def __init__(self, stack: Stack, *, max_concurrency: int = 0) -> None:
        self._stack = stack
        self._client = stack.aws("stepfunctions")
        self._arn: str = self._client.create_state_machine(
            name=f"benchmark-auction-{max_concurrency}",
            definition=json.dumps(_definition(stack, max_concurrency)),
            roleArn="arn:aws:iam::000000000000:role/benchmark",
        )["stateMachineArn"]

    def run(self) -> CpuUse:
        """Run an auction to its end; returns the CPU used meanwhile.

        Raises:
            BenchmarkError: it did not succeed.
        """
        deadline = time.monotonic() + _RUN_SECONDS
        with CpuMeter(self._stack) as meter:
            execution = self._client.start_execution(stateMachineArn=self._arn)["executionArn"]
            while (status := self._status(execution)) == "RUNNING":
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"the state machine still runs after {_RUN_SECONDS:.0f} s")
                time.sleep(_LOOK_EVERY_SECONDS)
        if status != "SUCCEEDED":
            raise BenchmarkError(f"the state machine ended {status}")
        return meter.use

    def _status(self, execution: str) -> str:
        try:
            return str(self._client.describe_execution(executionArn=execution)["status"])
        except ReadTimeoutError:
            # While it starts a few hundred processes, the emulator answers nobody.
            return "RUNNING"


def _definition(stack: Stack, max_concurrency: int) -> dict[str, Any]:
    process_order = {
        "Type": "Task",
        "Resource": _arn(stack, stack.auction_order_function),
        "Retry": [_THROTTLED],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Alert"}],
        "End": True,
    }
    alert = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sns:publish",
        "Parameters": {"TopicArn": stack.alerts_topic_arn, "Message.$": "$.error.Cause"},
        "End": True,
    }
    return {
        "StartAt": "AskForResults",
        "States": {
            "AskForResults": {
                "Type": "Task",
                "Resource": _arn(stack, RESULTS_FUNCTION),
                "Next": "AreThereResults",
            },
            "AreThereResults": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.results", "BooleanEquals": True, "Next": "ProcessOrders"}],
                "Default": "WaitForResults",
            },
            "WaitForResults": {"Type": "Wait", "Seconds": POLL_SECONDS, "Next": "AskForResults"},
            "ProcessOrders": {
                "Type": "Map",
                "ItemsPath": "$.orders",
                "MaxConcurrency": max_concurrency,
                "ItemProcessor": {
                    "StartAt": "ProcessOrder",
                    "States": {"ProcessOrder": process_order, "Alert": alert},
                },
                "End": True,
            },
        },
    }


def _arn(stack: Stack, function: str) -> str:
    return f"arn:aws:lambda:{stack.region}:000000000000:function:{function}"
