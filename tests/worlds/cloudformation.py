"""A CloudFormation of one stack, which goes through the states that a test gives it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

MADE = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


class FakeCloudFormation:
    """Answers the calls of a deployment.

    Args:
        status: state of the stack, or None while there is none.
        change_set: states of the next change set, one a look.
        reason: why the change set failed.
        after: states of the stack once the change set is executed, one a look.
        failures: (resource, reason) of what fails then.
    """

    def __init__(
        self,
        status: str | None,
        *,
        change_set: tuple[str, ...] = ("CREATE_COMPLETE",),
        reason: str = "",
        after: tuple[str, ...] = ("UPDATE_COMPLETE",),
        failures: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status = status
        self.change_set = list(change_set)
        self.reason = reason
        self.after = list(after)
        self.failures = failures
        self.created: list[dict[str, Any]] = []
        self.executed = 0
        self.deleted = 0

    def describe_stacks(self, **request: Any) -> dict[str, Any]:
        if self.executed and self.after:
            self.status = self.after.pop(0)
        if self.status is None:
            error = {"Code": "ValidationError", "Message": f"Stack with id {request['StackName']} does not exist"}
            raise ClientError({"Error": error}, "DescribeStacks")  # type: ignore[typeddict-item]
        outputs = [{"OutputKey": "SourceBucketName", "OutputValue": "bucket"}]
        parameters = [{"ParameterKey": "BusinessTimezone", "ParameterValue": "Europe/Berlin"}]
        stack = {"StackStatus": self.status, "CreationTime": MADE, "Outputs": outputs, "Parameters": parameters}
        return {"Stacks": [stack]}

    def create_change_set(self, **request: Any) -> dict[str, Any]:
        self.created.append(request)
        return {"Id": "change-set"}

    def describe_change_set(self, **request: Any) -> dict[str, Any]:
        assert request == {"ChangeSetName": "change-set"}
        status = self.change_set.pop(0) if len(self.change_set) > 1 else self.change_set[0]
        change = {"Action": "Modify", "LogicalResourceId": "Airflow", "ResourceType": "X", "Replacement": "True"}
        return {"Status": status, "StatusReason": self.reason, "Changes": [{"ResourceChange": change}]}

    def delete_change_set(self, **request: Any) -> None:
        assert request == {"ChangeSetName": "change-set"}
        self.deleted += 1

    def execute_change_set(self, **request: Any) -> None:
        assert request == {"ChangeSetName": "change-set"}
        self.executed += 1

    def describe_stack_events(self, **request: Any) -> dict[str, Any]:
        assert set(request) == {"StackName"}
        old = {"EventId": "old", "ResourceStatus": "UPDATE_FAILED", "LogicalResourceId": "Earlier"}
        new = [
            {
                "EventId": name,
                "ResourceStatus": "UPDATE_FAILED",
                "LogicalResourceId": name,
                "ResourceStatusReason": reason,
            }
            for name, reason in self.failures
        ]
        return {"StackEvents": [*(new if self.executed else []), old]}
