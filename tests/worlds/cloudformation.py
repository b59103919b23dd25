"""A CloudFormation of one stack with a nested one, which goes through the states that a test gives it."""

from datetime import UTC, datetime, timedelta
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

    Of its resources, `changed` says when each was last changed, by physical id.
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
        self.changed = {"bucket": MADE, "nested": MADE, "queue": MADE}

    def describe_stacks(self, **request: Any) -> dict[str, Any]:
        if self.executed and self.after:
            self.status = self.after.pop(0)
        if self.status is None:
            error = {"Code": "ValidationError", "Message": f"Stack with id {request['StackName']} does not exist"}
            raise ClientError({"Error": error}, "DescribeStacks")
        outputs = [{"OutputKey": "SourceBucketName", "OutputValue": "bucket"}]
        given = {"BusinessTimezone": "Europe/Berlin", "RunbookUrl": "https://wiki.example/runbook"}
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
        stack = {"StackStatus": self.status, "CreationTime": MADE, "Outputs": outputs, "Parameters": parameters}
        return {"Stacks": [stack]}

    def create_change_set(self, **request: Any) -> dict[str, Any]:
        self.created.append(request)
        return {"Id": "change-set"}

    def describe_stack_resources(self, **request: Any) -> dict[str, Any]:
        kinds = {"bucket": "AWS::S3::Bucket", "nested": "AWS::CloudFormation::Stack"}
        if request == {"StackName": "nested"}:
            kinds = {"queue": "AWS::SQS::Queue"}
        found = [
            {
                "LogicalResourceId": name.title(),
                "PhysicalResourceId": name,
                "ResourceType": kind,
                "Timestamp": self.changed[name],
            }
            for name, kind in kinds.items()
        ]
        return {"StackResources": found}

    def list_change_sets(self, **request: Any) -> dict[str, Any]:
        assert set(request) == {"StackName"}
        older = {"ChangeSetId": "older", "CreationTime": MADE - timedelta(days=1)}
        return {"Summaries": [older, {"ChangeSetId": "sam", "CreationTime": MADE}, older]}

    def get_template(self, **request: Any) -> dict[str, Any]:
        assert request == {"ChangeSetName": "sam"}
        return {"TemplateBody": {"Resources": {}}}

    def describe_change_set(self, **request: Any) -> dict[str, Any]:
        if request == {"ChangeSetName": "sam"}:
            return {"Parameters": [{"ParameterKey": "Environment", "ParameterValue": "prod"}]}
        if request == {"ChangeSetName": "nested"}:
            queue = {"Action": "Add", "LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue"}
            return {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": queue}]}
        assert request == {"ChangeSetName": "change-set"}
        status = self.change_set.pop(0) if len(self.change_set) > 1 else self.change_set[0]
        change = {"Action": "Modify", "LogicalResourceId": "Airflow", "ResourceType": "X", "Replacement": "True"}
        changes = [{"ResourceChange": change}]
        if self.created[-1]["IncludeNestedStacks"]:
            nested = {"Action": "Modify", "LogicalResourceId": "Nested", "ResourceType": "AWS::CloudFormation::Stack"}
            changes.append({"ResourceChange": {**nested, "ChangeSetId": "nested"}})
        return {"Status": status, "StatusReason": self.reason, "Changes": changes}

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
