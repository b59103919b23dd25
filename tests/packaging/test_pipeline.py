"""The delivery by CodePipeline: tested, then dev, staging, and prod once a person has approved."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from infra.release.deployment.steps import AIRFLOW_SECONDS
from infra.release.deployment.target import ENVIRONMENTS
from tests.worlds.templates import INFRA, load, properties_of, statements

DELIVERY = load("pipeline.yaml")
STAGES = {stage["Name"]: stage["Actions"] for stage in DELIVERY["Resources"]["Pipeline"]["Properties"]["Stages"]}
TARGETS = re.compile(r"^([a-z-]+):", re.MULTILINE)


def buildspec(project: str) -> dict[str, Any]:
    path = INFRA.parent / DELIVERY["Resources"][project]["Properties"]["Source"]["BuildSpec"]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def test_stages_are_in_their_order_and_a_person_stands_before_prod() -> None:
    assert list(STAGES) == ["Source", "Test", "Dev", "Staging", "Approval", "Prod"]
    (approval,) = STAGES["Approval"]
    assert approval["ActionTypeId"] == {"Category": "Approval", "Owner": "AWS", "Provider": "Manual", "Version": "1"}
    assert approval["Configuration"]["NotificationArn"] == {"Ref": "DeliveryTopic"}


def test_commits_come_by_the_connection_with_their_history_one_after_the_other() -> None:
    (source,) = STAGES["Source"]
    assert source["ActionTypeId"]["Provider"] == "CodeStarSourceConnection"
    assert source["Configuration"]["ConnectionArn"] == {"Ref": "ConnectionArn"}
    assert source["Configuration"]["OutputArtifactFormat"] == "CODEBUILD_CLONE_REF"
    pipeline = DELIVERY["Resources"]["Pipeline"]["Properties"]
    assert (pipeline["PipelineType"], pipeline["ExecutionMode"]) == ("V2", "QUEUED")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_stage_deploys_its_environment_as_that_environment_s_role(environment: str) -> None:
    stage = environment.capitalize()
    (action,) = STAGES[stage]
    assert action["Configuration"]["ProjectName"] == {"Ref": "DeployProject"}
    given = json.loads(action["Configuration"]["EnvironmentVariables"]["Fn::Sub"])
    assert {item["name"]: item["value"] for item in given} == {
        "DEPLOY_ENVIRONMENT": environment,
        "DEPLOY_ROLE_ARN": f"${{{stage}RoleArn}}",
    }


def test_builds_call_the_same_commands_as_a_person_and_as_github() -> None:
    test, deploy = buildspec("TestProject"), buildspec("DeployProject")
    assert test["phases"]["build"]["commands"] == [".ci/run", "make preflight", "make bundle", "make prove"]
    assert deploy["phases"]["build"]["commands"] == [
        'AWS_PROFILE=target make deploy ENV="$DEPLOY_ENVIRONMENT" APPROVED=1'
    ]
    targets = set(TARGETS.findall((INFRA.parent / "Makefile").read_text(encoding="utf-8")))
    for spec in (test, deploy):
        assert spec["phases"]["install"]["runtime-versions"] == {"python": 3.12}
        for command in spec["phases"]["build"]["commands"]:
            words = command.split()
            if "make" in words:
                assert words[words.index("make") + 1] in targets, command


def test_deployment_may_take_as_long_as_it_waits() -> None:
    assert DELIVERY["Resources"]["DeployProject"]["Properties"]["TimeoutInMinutes"] * 60 > AIRFLOW_SECONDS + 1800


def test_failures_of_any_stage_are_told() -> None:
    (rule,) = properties_of(DELIVERY, "AWS::Events::Rule").values()
    pattern = rule["EventPattern"]
    assert pattern["detail"] == {
        "pipeline": [DELIVERY["Resources"]["Pipeline"]["Properties"]["Name"]],
        "state": ["FAILED"],
    }
    telling = [item for _, item in statements(DELIVERY) if item["Sid"] == "FailuresAreTold"]
    assert len(telling) == 2, "one of the topic, one of its key"
    # EventBridge publishes without saying on whose behalf, so that a condition on it is never true.
    assert not any("Condition" in item for item in telling)
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Ref": "DeliveryTopic"}
    paths = set(target["InputTransformer"]["InputPathsMap"])
    assert set(re.findall(r"<(\w+)>", target["InputTransformer"]["InputTemplate"])) == paths
    # Text, in quotes, on one line: else EventBridge refuses it.
    assert re.fullmatch(r'"[^"\n]*"', target["InputTransformer"]["InputTemplate"])


def test_what_is_passed_on_is_encrypted_and_private_and_builds_log_to_groups_that_forget() -> None:
    (bucket,) = properties_of(DELIVERY, "AWS::S3::Bucket").values()
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    assert bucket["BucketEncryption"]
    (topic,) = properties_of(DELIVERY, "AWS::SNS::Topic").values()
    assert topic["KmsMasterKeyId"] == {"Ref": "DeliveryKey"}
    groups = properties_of(DELIVERY, "AWS::Logs::LogGroup")
    for project in properties_of(DELIVERY, "AWS::CodeBuild::Project").values():
        group = groups[project["LogsConfig"]["CloudWatchLogs"]["GroupName"]["Ref"]]
        assert group["LogGroupName"] == f"/aws/codebuild/{project['Name']}"
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
