"""`make deploy` on the emulator, as far as it goes: a parameter stands in for the environment."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from infra.release.bundle import ReleaseError
from infra.release.deploy import PLACES, ROOT, assemble, check_account
from infra.release.deployment.mwaa import Airflow, BundleBucket
from infra.release.deployment.target import read_target
from tests.integration.conftest import Aws
from tests.integration.deployments import Project, new_account

SMALL_APPLICATION = """
Parameters:
  Environment:
    Type: String
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub queue-${Environment}
"""


@pytest.fixture
def account(emulator: str) -> Aws:
    return new_account(emulator)


@pytest.fixture
def project(account: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("AWS_ENDPOINT_URL", account.endpoint)
    # MWAA is called at api.<address>, which is no name here.
    monkeypatch.setenv("AWS_DISABLE_HOST_PREFIX_INJECTION", "true")
    project = Project(account, tmp_path)
    project.mwaa.create_environment(
        Name="pipelines-dev",
        SourceBucketArn=f"arn:aws:s3:::{project.bucket}",
        DagS3Path="dags",
        ExecutionRoleArn=f"arn:aws:iam::{account.account}:role/any",
        NetworkConfiguration={},
    )
    return project


@pytest.mark.timeout(900)  # two deployments, each with preflight and build
def test_deployment_brings_all_of_it_there_and_a_second_one_changes_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    first = project.deploy()
    assert first == [
        "the application",
        "the network and the bucket",
        "plugins.zip",
        "requirements.txt",
        "the environment",
        "the DAGs",
    ]
    dags = {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")}
    assert dags
    assert {key for key in project.listed() if key.endswith(".py")} == dags
    assert {"plugins.zip", "requirements.txt"} <= project.listed()
    for key, version in zip(("plugins.zip", "requirements.txt"), project.environment_runs(), strict=True):
        head = project.account.s3.head_object(Bucket=project.bucket, Key=key, VersionId=version)
        content = (project.places.bundle / key).read_bytes()
        assert head["Metadata"]["sha256"] == hashlib.sha256(content).hexdigest()
    alarms = {item["AlarmName"] for item in project.account.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert "pipelines-dev-airflow-scheduler-silent" in alarms
    parameters = project.parameters()
    assert parameters["AlertsTopicArn"].endswith(":pipelines-alerts-dev")
    assert parameters["BusinessTimezone"] == "America/New_York"

    capsys.readouterr()
    assert project.deploy() == []
    assert "Nothing to do: dev has all of this already." in capsys.readouterr().out


def test_production_s_application_is_made_once_a_person_agrees_and_left_by_a_no(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.places.build.mkdir()
    (project.places.build / "template.yaml").write_text(SMALL_APPLICATION, encoding="utf-8")
    places, account = project.places, project.account.account
    session, target = project.account.session(), read_target(places.sam_config, "prod")
    made = assemble(target, account, places, project.commands, session, approved=False, sleep=time.sleep)
    answers = iter([False, True, True])
    made = replace(made, confirm=lambda _: next(answers))
    (step,) = [step for step in made.steps() if step.title == "Deploy the application"]
    with pytest.raises(ReleaseError, match="nobody agreed"):
        step.run()
    assert made.stacks.outputs(target.application_stack) is None
    assert project.account.sqs.list_queues().get("QueueUrls", []) == []
    step.run()
    assert made.changed == ["the application"]
    (queue,) = project.account.sqs.list_queues()["QueueUrls"]
    assert queue.endswith("/queue-prod")

    changed = f"{SMALL_APPLICATION}  Topic:\n    Type: AWS::SNS::Topic\n"
    (project.places.build / "template.yaml").write_text(changed, encoding="utf-8")
    capsys.readouterr()
    step.run()
    assert "    Add Topic AWS::SNS::Topic" in capsys.readouterr().out.splitlines()
    assert made.changed == ["the application"] * 2


def test_second_environment_in_an_account_is_refused_before_anything_is_made(account: Aws, project: Project) -> None:
    given = [{"ParameterKey": "Environment", "ParameterValue": "prod"}]
    account.cloudformation.create_stack(StackName="pipelines-prod", TemplateBody=SMALL_APPLICATION, Parameters=given)
    with pytest.raises(ReleaseError, match="the stack pipelines-prod is in this account and region"):
        project.deploy()
    assert not project.places.bundle.exists()
    stacks = account.cloudformation.describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["pipelines-prod"]


def test_files_are_uploaded_where_their_content_differs_and_removed_where_they_are_gone(
    account: Aws, tmp_path: Path
) -> None:
    bucket = "pipelines-mwaa-dev-anything"
    account.s3.create_bucket(Bucket=bucket)
    bundles = BundleBucket(account.s3, bucket)
    archive, dags = tmp_path / "plugins.zip", tmp_path / "dags"
    archive.write_bytes(b"one")
    with pytest.raises(ReleaseError, match="keeps no versions"):
        bundles.put("plugins.zip", archive)
    account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    account.s3.put_object(Bucket=bucket, Key="plugins.zip", Body=b"somebody's own")

    first = bundles.put("plugins.zip", archive)
    assert first.changed
    assert bundles.put("plugins.zip", archive) == replace(first, changed=False)
    archive.write_bytes(b"two")
    second = bundles.put("plugins.zip", archive)
    assert second.changed
    assert second.version != first.version
    old = account.s3.get_object(Bucket=bucket, Key="plugins.zip", VersionId=first.version)["Body"].read()
    assert old == b"one", "an update that fails goes on with it"

    with pytest.raises(ReleaseError, match="has no file"):
        bundles.sync(dags, "dags/")
    (dags / "common").mkdir(parents=True)
    for name in ("a.py", "common/b.py"):
        (dags / name).write_text(name)
    account.s3.put_object(Bucket=bucket, Key="dags/removed_since.py", Body=b"")
    account.s3.put_object(Bucket=bucket, Key="dags/a.py", Body=b"somebody's own")
    done = bundles.sync(dags, "dags/")
    assert (done.uploaded, done.deleted, done.unchanged) == (
        ("dags/a.py", "dags/common/b.py"),
        ("dags/removed_since.py",),
        0,
    )
    assert bundles.sync(dags, "dags/").unchanged == 2
    listed = {item["Key"] for item in account.s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert listed == {"plugins.zip", "dags/a.py", "dags/common/b.py"}


def test_environment_that_is_not_there_is_reported(project: Project) -> None:
    airflow = Airflow(project.mwaa, project.logs, "pipelines-staging", "airflow-pipelines-staging-Scheduler")
    with pytest.raises(ReleaseError, match="MWAA has no environment pipelines-staging"):
        airflow.check()


def test_account_is_that_of_the_credentials_and_must_be_the_targets(project: Project) -> None:
    session = project.account.session()
    assert check_account(session, project.target) == project.account.account
    with pytest.raises(
        ReleaseError, match=r"these credentials are for account \d{12}, and dev is account 999999999999"
    ):
        check_account(session, replace(project.target, account="999999999999"))


def test_missing_credentials_are_reported_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(ReleaseError, match="there are no AWS credentials: sign in"):
        check_account(boto3.Session(region_name="us-east-1"), read_target(PLACES.sam_config, "dev"))
