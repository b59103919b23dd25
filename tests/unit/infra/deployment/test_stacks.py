from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from infra.release.bundle import ReleaseError
from infra.release.deployment.stacks import Stacks
from tests.worlds.cloudformation import FakeCloudFormation


@dataclass
class Person:
    """Who waits: reads along, agrees or not; time passes only while he sleeps."""

    agrees: bool = True
    read: list[str] = field(default_factory=list)
    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def stacks(self, cloudformation: FakeCloudFormation) -> Stacks:
        client = cloudformation
        tags = {"pipelines": "dev"}
        return Stacks(client, self.read.append, lambda _: self.agrees, lambda: self.now, self.sleep, tags)


def test_stack_that_is_not_there_is_created_and_one_that_is_there_updated() -> None:
    for status, kind in ((None, "CREATE"), ("REVIEW_IN_PROGRESS", "CREATE"), ("UPDATE_COMPLETE", "UPDATE")):
        aws = FakeCloudFormation(status)
        assert Person().stacks(aws).deploy("s", "{}", {"Name": "value"}, timeout=60)
        (request,) = aws.created
        assert request["ChangeSetType"] == kind
        assert request["Parameters"] == [{"ParameterKey": "Name", "ParameterValue": "value"}]
        assert request["Tags"] == [{"Key": "pipelines", "Value": "dev"}]
        assert aws.executed == 1


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ],
)
def test_nothing_to_change_is_no_failure_and_leaves_no_change_set(reason: str) -> None:
    aws = FakeCloudFormation("UPDATE_COMPLETE", change_set=("CREATE_IN_PROGRESS", "FAILED"), reason=reason)
    assert not Person().stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert (aws.executed, aws.deleted) == (0, 1)


def test_change_that_cannot_be_made_says_why() -> None:
    aws = FakeCloudFormation("UPDATE_COMPLETE", change_set=("FAILED",), reason="Template error: no such parameter")
    with pytest.raises(ReleaseError, match="the stack s cannot be changed: Template error: no such parameter"):
        Person().stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert (aws.executed, aws.deleted) == (0, 1)


def test_person_sees_what_is_replaced_and_may_refuse() -> None:
    person, aws = Person(agrees=False), FakeCloudFormation("UPDATE_COMPLETE")
    with pytest.raises(ReleaseError, match="left as it is: nobody agreed"):
        person.stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert person.read == ["    Modify Airflow X (replaced!)"]
    assert (aws.executed, aws.deleted) == (0, 1)


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "CREATE_IN_PROGRESS"])
def test_stack_that_somebody_else_changes_is_left_to_him(status: str) -> None:
    aws = FakeCloudFormation(status)
    with pytest.raises(ReleaseError, match=rf"is being changed \({status}\): wait"):
        Person().stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert aws.created == []


def test_stack_that_was_never_made_must_be_deleted_by_a_person() -> None:
    aws = FakeCloudFormation("ROLLBACK_COMPLETE")
    with pytest.raises(ReleaseError, match="aws cloudformation delete-stack --stack-name s"):
        Person().stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert aws.created == []
    with pytest.raises(ReleaseError, match=r"never made \(ROLLBACK_COMPLETE\)[\s\S]*Buckets may be left$"):
        Person().stacks(aws).check_made("s", "Buckets may be left")


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS"])
def test_stack_that_is_there_or_was_never_begun_may_be_deployed(status: str | None) -> None:
    Person().stacks(FakeCloudFormation(status)).check_made("s", "left")


def test_failure_tells_the_reasons_of_this_change_and_of_no_earlier_one() -> None:
    aws = FakeCloudFormation(
        "UPDATE_COMPLETE",
        after=("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
        failures=(("Airflow", "Unable to read version abc of plugins.zip"),),
    )
    with pytest.raises(ReleaseError) as failure:
        Person().stacks(aws).deploy("s", "{}", {}, timeout=600)
    assert "Unable to read version abc of plugins.zip" in str(failure.value)
    assert "UPDATE_ROLLBACK_COMPLETE" in str(failure.value)
    assert "Earlier" not in str(failure.value)


def test_wait_ends_after_its_time_and_says_that_aws_goes_on() -> None:
    person = Person()
    aws = FakeCloudFormation("UPDATE_COMPLETE", after=("UPDATE_IN_PROGRESS",))
    with pytest.raises(ReleaseError, match=r"not done after 60 minutes \(UPDATE_IN_PROGRESS\)\. AWS goes on"):
        person.stacks(aws).deploy("s", "{}", {}, timeout=3600)
    assert 3600 < person.now < 3700
    # Whoever reads along sees once a minute that it goes on.
    assert [line for line in person.read if "UPDATE_IN_PROGRESS" in line][:2] == [
        "       60 s  UPDATE_IN_PROGRESS",
        "      120 s  UPDATE_IN_PROGRESS",
    ]


def test_change_set_that_never_comes_is_given_up() -> None:
    aws = FakeCloudFormation("UPDATE_COMPLETE", change_set=("CREATE_IN_PROGRESS",))
    with pytest.raises(ReleaseError, match="not known in time"):
        Person().stacks(aws).deploy("s", "{}", {}, timeout=60)
    assert aws.executed == 0


def test_outputs_and_parameters_are_read_and_a_missing_stack_has_none() -> None:
    there, missing = Person().stacks(FakeCloudFormation("UPDATE_COMPLETE")), Person().stacks(FakeCloudFormation(None))
    assert there.outputs("s") == {"SourceBucketName": "bucket"}
    assert there.parameters("s")["BusinessTimezone"] == "Europe/Berlin"
    assert missing.outputs("s") is None
    assert missing.parameters("s") == {}


@pytest.mark.parametrize(
    "status",
    [
        "REVIEW_IN_PROGRESS",
        "CREATE_IN_PROGRESS",
        "CREATE_FAILED",
        "ROLLBACK_IN_PROGRESS",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "DELETE_IN_PROGRESS",
        "DELETE_FAILED",
    ],
)
def test_stack_whose_resources_nothing_can_rely_on_has_no_outputs(status: str) -> None:
    assert Person().stacks(FakeCloudFormation(status)).outputs("s") is None


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
)
def test_stack_that_was_made_has_its_outputs_whatever_became_of_its_updates(status: str) -> None:
    assert Person().stacks(FakeCloudFormation(status)).outputs("s") == {"SourceBucketName": "bucket"}


def test_stack_is_changed_when_a_resource_is_and_not_when_its_nested_stacks_were_only_looked_at() -> None:
    aws = FakeCloudFormation("UPDATE_COMPLETE")
    stacks = Person().stacks(aws)
    before = stacks.resources("s")
    aws.changed["nested"] += timedelta(hours=1)
    assert stacks.resources("s") == before
    aws.changed["queue"] += timedelta(hours=1)
    assert stacks.resources("s") != before
    assert Person().stacks(FakeCloudFormation(None)).resources("s") == frozenset()


def test_person_sees_what_changes_within_nested_stacks() -> None:
    person, aws = Person(), FakeCloudFormation("UPDATE_COMPLETE")
    person.stacks(aws).tell_nested("s", timeout=60)
    assert person.read == [
        "    Modify Airflow X (replaced!)",
        "    Modify Nested AWS::CloudFormation::Stack",
        "        Add Queue AWS::SQS::Queue",
    ]
    (request,) = aws.created
    assert request["IncludeNestedStacks"]
    assert request["TemplateBody"] == '{"Resources": {}}'
    assert request["Parameters"] == [{"ParameterKey": "Environment", "ParameterValue": "prod"}]
    assert (aws.executed, aws.deleted) == (0, 1)


def test_person_is_told_that_changes_within_nested_stacks_are_not_known() -> None:
    person, aws = Person(), FakeCloudFormation("UPDATE_COMPLETE", change_set=("FAILED",), reason="Nested: FAILED")
    person.stacks(aws).tell_nested("s", timeout=60)
    (told,) = person.read
    assert told.strip() == "what changes in nested stacks is not known: the stack s cannot be changed: Nested: FAILED"


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS"])
def test_of_a_stack_that_is_not_there_yet_everything_is_new(status: str | None) -> None:
    person, aws = Person(), FakeCloudFormation(status)
    person.stacks(aws).tell_nested("s", timeout=60)
    assert (person.read, aws.created) == ([], [])
