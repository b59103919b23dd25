"""Stacks of CloudFormation: changed by change sets, waited for, and explained when they fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError
from infra.release.templates import NESTED

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import DescribeChangeSetOutputTypeDef, StackTypeDef

_NOTHING_TO_DO = ("didn't contain changes", "No updates are to be performed")
"""How CloudFormation words that a change set would change nothing."""

_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_NEVER_MADE = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"})
_NOT_THERE = _NEVER_MADE | {
    "REVIEW_IN_PROGRESS",
    "CREATE_IN_PROGRESS",
    "ROLLBACK_IN_PROGRESS",
    "DELETE_IN_PROGRESS",
    "DELETE_FAILED",
}
"""States in which a stack's resources are not there yet, or no more: nothing can rely on them."""

_POLL_SECONDS = 10.0
_SILENCE_SECONDS = 60.0
"""After so long without an event, a line says that it goes on."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """Deploys stacks, in one account and region.

    Args:
        say: takes a line for the person who waits.
        confirm: asks that person; a change of a stack is made only if it returns True.
        clock: seconds, from any start.
        sleep: waits for so many seconds.
        tags: of the stacks, which CloudFormation passes on to what it makes, {name: value}.
    """

    cloudformation: CloudFormationClient
    say: Callable[[str], None]
    confirm: Callable[[str], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tags: Mapping[str, str] = field(default_factory=dict)

    def outputs(self, name: str) -> dict[str, str] | None:
        """Outputs of a stack, {name: value}; None if it was never made, or is not there yet or no more."""
        stack = self._describe(name)
        if stack is None or stack["StackStatus"] in _NOT_THERE:
            return None
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def parameters(self, name: str) -> dict[str, str]:
        """Values of a stack's parameters, {name: value}; of a stack that is not there, none."""
        stack = self._describe(name)
        given = stack.get("Parameters", []) if stack else []
        return {item["ParameterKey"]: item["ParameterValue"] for item in given}

    def resources(self, name: str) -> frozenset[tuple[str, datetime]]:
        """Resources of a stack and of its nested stacks by their physical ids, each with when it was last changed.

        The stack itself says less: CloudFormation takes up its nested stacks at every update, and then calls it updated
        though nothing in any of them is.
        """
        if self._describe(name) is None:
            return frozenset()
        found: set[tuple[str, datetime]] = set()
        for item in self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]:
            if item["ResourceType"] == NESTED:
                found |= self.resources(item["PhysicalResourceId"])
            else:
                found.add((item.get("PhysicalResourceId", item["LogicalResourceId"]), item["Timestamp"]))
        return frozenset(found)

    def tell_nested(self, name: str, *, timeout: float) -> None:
        """Tell what the latest change set of a stack would change in its nested stacks, if it has any already.

        The change sets that SAM makes say of every nested stack that it may change, and no more.
        """
        stack = self._describe(name)
        if stack is None or stack["StackStatus"] in _NOT_THERE:
            return
        made = self.cloudformation.list_change_sets(StackName=name)["Summaries"]
        if not made:
            return
        latest = max(made, key=lambda item: item["CreationTime"])["ChangeSetId"]
        parameters = self.cloudformation.describe_change_set(ChangeSetName=latest).get("Parameters", [])
        template: Any = self.cloudformation.get_template(ChangeSetName=latest)["TemplateBody"]
        try:
            change_set = self._propose(
                name,
                template if isinstance(template, str) else json.dumps(template),
                {item["ParameterKey"]: item["ParameterValue"] for item in parameters},
                new=False,
                deadline=self.clock() + timeout,
                nested=True,
            )
        except ReleaseError as error:
            self.say(f"    what changes in nested stacks is not known: {error}")
        else:
            if change_set:
                self.cloudformation.delete_change_set(ChangeSetName=change_set)

    def check_made(self, name: str, left: str) -> None:
        """Raise ReleaseError if a stack was never made; ``left`` says what its creation may have left."""
        stack = self._describe(name)
        if stack and stack["StackStatus"] in _NEVER_MADE:
            raise _never_made(name, stack["StackStatus"], left)

    def deploy(self, name: str, template: str, parameters: Mapping[str, str], *, timeout: float) -> bool:
        """Make a stack what a template and its parameters say, and wait until it is (at most `timeout` seconds).

        Returns:
            Whether anything was changed.

        Raises:
            ReleaseError: the stack is being changed by somebody else, was never made, cannot be changed, failed, or is
                not done in time; or the person said no.
        """
        stack = self._describe(name)
        status = stack["StackStatus"] if stack else None
        new = status in (None, "REVIEW_IN_PROGRESS")
        if status in _NEVER_MADE:
            raise _never_made(name, status)
        if not new and status and status.endswith("_IN_PROGRESS"):
            raise ReleaseError(
                f"the stack {name} is being changed ({status}): wait until that is done, then deploy again"
            )
        change_set = self._propose(name, template, parameters, new=new, deadline=self.clock() + timeout)
        if change_set is None:
            return False
        if not self.confirm(f"Change the stack {name} like this?"):
            self.cloudformation.delete_change_set(ChangeSetName=change_set)
            raise ReleaseError(f"the stack {name} was left as it is: nobody agreed to its changes")
        seen = {event_id for event_id, _, _ in self._events(name)}
        self.cloudformation.execute_change_set(ChangeSetName=change_set)
        self._wait(name, seen, timeout)
        return True

    def _propose(
        self,
        name: str,
        template: str,
        parameters: Mapping[str, str],
        *,
        new: bool,
        deadline: float,
        nested: bool = False,
    ) -> str | None:
        """Id of a change set, once it has been told; None if there is nothing to change."""
        change_set = self.cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=f"deploy-{uuid4().hex}",
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in self.tags.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            IncludeNestedStacks=nested,
        )["Id"]
        while True:
            found = self.cloudformation.describe_change_set(ChangeSetName=change_set)
            if found["Status"] == "CREATE_COMPLETE":
                break
            reason = found.get("StatusReason", "")
            if found["Status"] == "FAILED":
                self.cloudformation.delete_change_set(ChangeSetName=change_set)
                if any(text in reason for text in _NOTHING_TO_DO):
                    return None
                raise ReleaseError(f"the stack {name} cannot be changed: {reason}")
            if self.clock() > deadline:
                raise ReleaseError(f"the changes of the stack {name} are not known in time; deploy again")
            self.sleep(_POLL_SECONDS / 5)
        self._tell(found, "    ")
        return change_set

    def _tell(self, change_set: DescribeChangeSetOutputTypeDef, indent: str) -> None:
        for change in change_set.get("Changes", []):
            item = change.get("ResourceChange", {})
            replaced = " (replaced!)" if item.get("Replacement") == "True" else ""
            what = f"{item.get('LogicalResourceId', '')} {item.get('ResourceType', '')}"
            self.say(f"{indent}{item.get('Action', '')} {what}{replaced}")
            if "ChangeSetId" in item:
                nested = self.cloudformation.describe_change_set(ChangeSetName=item["ChangeSetId"])
                self._tell(nested, f"{indent}    ")

    def _wait(self, name: str, seen: set[str], timeout: float) -> None:
        """Tell what happens to a stack until it is done; `seen` are ids of events that belong to earlier changes."""
        started = said = self.clock()
        failures: list[str] = []
        while True:
            stack = self._describe(name)
            status = stack["StackStatus"] if stack else "DELETE_COMPLETE"
            now = self.clock()
            for event_id, text, failed in reversed(self._events(name) if stack else []):
                if event_id not in seen:
                    seen.add(event_id)
                    said = now
                    self.say(f"    {int(now - started):>5} s  {text}")
                    if failed:
                        failures.append(text)
            if now - said >= _SILENCE_SECONDS:
                said = now
                self.say(f"    {int(now - started):>5} s  {status}")
            if status in _GOOD:
                return
            if not status.endswith("_IN_PROGRESS"):
                failures = failures or [stack.get("StackStatusReason", "") if stack else ""]
                reasons = "".join(f"\n    {text}" for text in failures)
                raise ReleaseError(f"the stack {name} failed ({status}):{reasons}")
            if self.clock() - started > timeout:
                raise ReleaseError(
                    f"the stack {name} is not done after {timeout / 60:.0f} minutes ({status}). AWS goes on with it; "
                    "once it is done, deploy again: what is done already is not done twice"
                )
            self.sleep(_POLL_SECONDS)

    def _events(self, name: str) -> list[tuple[str, str, bool]]:
        """Id, text and failure of a stack's latest events, latest first."""
        events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        return [
            (
                event["EventId"],
                f"{event.get('ResourceStatus', '')} {event.get('LogicalResourceId', '')} "
                f"{event.get('ResourceStatusReason', '')}".rstrip(),
                event.get("ResourceStatus", "").endswith("_FAILED"),
            )
            for event in events
        ]

    def _describe(self, name: str) -> StackTypeDef | None:
        try:
            return self.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise


def _never_made(name: str, status: str, left: str = "") -> ReleaseError:
    return ReleaseError(
        f"the stack {name} was never made ({status}). Delete it, then deploy again:\n"
        f"    aws cloudformation delete-stack --stack-name {name}" + (left and f"\n{left}")
    )
