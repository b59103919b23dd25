"""The delivery by CodePipeline: tested, then dev, staging, and prod once a person has approved."""

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from infra.release.deployment.steps import AIRFLOW_SECONDS
from infra.release.deployment.target import ENVIRONMENTS
from tests.worlds.templates import INFRA, load, properties_of, statements, texts

DELIVERY = load("pipeline.yaml")
STAGES = {stage["Name"]: stage["Actions"] for stage in DELIVERY["Resources"]["Pipeline"]["Properties"]["Stages"]}
TARGETS = re.compile(r"^([a-z-]+):", re.MULTILINE)


def buildspec(project: str) -> dict[str, Any]:
    document = yaml.safe_load(DELIVERY["Resources"][project]["Properties"]["Source"]["BuildSpec"])
    assert isinstance(document, dict), "it names a file, which a commit could change"
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
    assert action["Configuration"] == {"ProjectName": {"Ref": f"{stage}Project"}}
    project = DELIVERY["Resources"][f"{stage}Project"]["Properties"]
    assert project["ServiceRole"] == {"Fn::GetAtt": f"{stage}Role.Arn"}
    assert project["Environment"]["EnvironmentVariables"] == [
        {"Name": "DEPLOY_ROLE_ARN", "Value": {"Ref": f"{stage}RoleArn"}}
    ]
    assert buildspec(f"{stage}Project")["phases"]["build"]["commands"] == [
        f"AWS_PROFILE=target make deploy ENV={environment} APPROVED=1"
    ]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_environment_s_project_takes_the_deploying_role_of_its_environment_and_no_other(environment: str) -> None:
    stage = environment.capitalize()
    role = DELIVERY["Resources"][f"{stage}Role"]["Properties"]
    (policy,) = role["Policies"]
    assert "ManagedPolicyArns" not in role
    taken = [
        target
        for item in policy["PolicyDocument"]["Statement"]
        if any(fnmatchcase("sts:AssumeRole", action) for action in texts(item["Action"]))
        for target in texts(item["Resource"])
    ]
    assert taken == [f"{stage}RoleArn"]
    pattern = DELIVERY["Parameters"][f"{stage}RoleArn"]["AllowedPattern"]
    names = [
        name for name in ENVIRONMENTS if re.search(pattern, f"arn:aws:iam::{'1' * 12}:role/deploy-pipelines-{name}")
    ]
    assert names == [environment]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    (source,) = texts(trust["Condition"]["ArnEquals"]["aws:SourceArn"])
    assert source.endswith(f":project/{DELIVERY['Resources'][f'{stage}Project']['Properties']['Name']}")
    # The deploying role trusts it by name.
    trusted = load("deploy-role.yaml")["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    (principal,) = [item["Fn::If"][1]["Principal"] for item in trusted if item["Fn::If"][0] == "PipelineDeploys"]
    (arn,) = texts(principal["AWS"])
    assert arn.replace("${Environment}", environment).endswith(f":role/{role['RoleName']}")


def test_no_role_of_the_delivery_can_change_what_another_stage_runs() -> None:
    for owner, item in statements(DELIVERY):
        if owner.endswith("Role") and owner != "PipelineRole":
            assert {action for action in texts(item["Action"]) if action.startswith(("codebuild:", "s3:Put"))} == set()


def test_builds_call_the_same_commands_as_a_person_and_as_github() -> None:
    test = buildspec("TestProject")
    assert test["phases"]["build"]["commands"] == [".ci/run", "make preflight", "make bundle", "make prove"]
    targets = set(TARGETS.findall((INFRA.parent / "Makefile").read_text(encoding="utf-8")))
    for spec in (test, *(buildspec(f"{environment.capitalize()}Project") for environment in ENVIRONMENTS)):
        assert spec["phases"]["install"]["runtime-versions"] == {"python": 3.12}
        for command in spec["phases"]["build"]["commands"]:
            words = command.split()
            if "make" in words:
                assert words[words.index("make") + 1] in targets, command


def test_deployment_may_take_as_long_as_it_waits() -> None:
    for environment in ENVIRONMENTS:
        project = DELIVERY["Resources"][f"{environment.capitalize()}Project"]["Properties"]
        assert project["TimeoutInMinutes"] * 60 > AIRFLOW_SECONDS + 1800


def test_failures_of_any_stage_are_reported() -> None:
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
