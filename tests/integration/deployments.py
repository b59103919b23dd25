"""Deployments to the emulator: the templates as far as it holds them, and `make deploy` with what it lacks made up."""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.release.deploy import PLACES, ROOT, command_environment, deploy
from infra.release.deployment.steps import Commands
from infra.release.deployment.target import read_target
from local.processes.layout import aws_environment
from tests.integration.conftest import EMPTY_ACCOUNTS, Aws
from tests.worlds.templates import load, without

NOT_HELD = frozenset(
    {
        "AWS::CloudWatch::CompositeAlarm",
        "AWS::CodePipeline::Pipeline",
        "AWS::EC2::EIP",
        "AWS::EC2::NatGateway",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::MWAA::Environment",
    }
)
"""Types of resources that the emulator's CloudFormation does not know."""

NOT_HELD_EITHER = frozenset({"TriggererSilentAlarm", "UnreportedWithinHour", "UnreportedWithinLongerTime"})
"""Resources of types that it knows, but not like that: no alarm that calculates with several metrics."""

LACKING = {
    "mwaa.yaml": {
        "Airflow",
        "AirflowTalksToItself",
        "NatAddressA",
        "NatAddressB",
        "NatGatewayA",
        "NatGatewayB",
        "PrivateRouteToTheInternetA",
        "PrivateRouteToTheInternetB",
        "TriggererSilentAlarm",
        "UnreportedFailureAlarm",
        "UnreportedWithinHour",
        "UnreportedWithinLongerTime",
    },
    "pipeline.yaml": {"Pipeline"},
    # GitHub's provider is unknown as well, but is only made where the account has none.
    "deploy-role.yaml": set[str](),
}
"""What is therefore not created there, by template: those, and routes to a NAT gateway."""


def held(name: str) -> str:
    """A template with all that the emulator can create, as JSON."""
    template, gone = without(load(name), NOT_HELD, NOT_HELD_EITHER)
    assert gone == LACKING[name]
    return json.dumps(_for_the_emulator({key: value for key, value in template.items() if key != "Metadata"}))


def _for_the_emulator(part: Any) -> Any:
    """A part of a template with what the emulator takes as a list only."""
    if isinstance(part, dict):
        return {
            key: value.split(".", 1) if key == "Fn::GetAtt" else _for_the_emulator(value) for key, value in part.items()
        }
    return [_for_the_emulator(item) for item in part] if isinstance(part, list) else part


def new_account(emulator: str) -> Aws:
    """An account in which nothing exists; what is deployed to it is built by its deployment."""
    return Aws(emulator, str(next(EMPTY_ACCOUNTS)), Path())


def with_stand_in(template: str) -> str:
    """A template with a parameter in place of the environment.

    Like that it takes the versions. It is always there, because the emulator sees no change in a condition alone.
    """
    document = json.loads(template)
    properties = load("mwaa.yaml")["Resources"]["Airflow"]["Properties"]
    given = {key: properties[key]["Ref"] for key in ("PluginsS3ObjectVersion", "RequirementsS3ObjectVersion")}
    value = {"Fn::Sub": ",".join(f"${{{parameter}}}" for parameter in given.values())}
    document["Resources"]["StandIn"] = {
        "Type": "AWS::SSM::Parameter",
        "Properties": {"Name": "/environment", "Type": "String", "Value": value},
    }
    return json.dumps(document)


SECTIONS = """
[{0}.deploy.parameters]
stack_name = "pipelines-{0}"
region = "us-east-1"
tags = "pipelines={0}"
capabilities = "CAPABILITY_IAM"
resolve_s3 = true
confirm_changeset = false
fail_on_empty_changeset = false
parameter_overrides = ["Environment={0}"]
[{0}.mwaa.parameters]
stack_name = "pipelines-mwaa-{0}"
"""
"""An environment in samconfig.toml before anybody gives account, region and parameters of his own."""


class Project:
    """A deployment to the emulator, of this tree, with an environment that a test makes."""

    def __init__(self, account: Aws, folder: Path) -> None:
        self.account = account
        variables = command_environment(os.environ) | aws_environment(account.endpoint)
        variables |= {"AWS_ACCESS_KEY_ID": account.account, "LAMBDA_WHEELS": "host", "SAM_CLI_POLL_DELAY": "0.5"}
        self.commands = Commands(ROOT, variables)
        template = folder / "mwaa.yaml"
        template.write_text(with_stand_in(held("mwaa.yaml")), encoding="utf-8")
        config = folder / "samconfig.toml"
        config.write_text("version = 0.1\n" + SECTIONS.format("dev") + SECTIONS.format("prod"), encoding="utf-8")
        self.places = replace(
            PLACES, airflow_template=template, build=folder / "build", bundle=folder / "dist", sam_config=config
        )
        self.target = read_target(config, "dev")
        self.bucket = self.target.source_bucket(account.account)
        create: Callable[..., Any] = account.session().client
        self.mwaa = create("mwaa", endpoint_url=account.endpoint)
        self.logs = create("logs", endpoint_url=account.endpoint)

    def deploy(self) -> list[str]:
        return deploy(
            self.target,
            self.places,
            self.commands,
            self.account.session(),
            argparse.Namespace(dry_run=False, approved=False),
            sleep=lambda _: time.sleep(0.2),
        )

    def listed(self) -> set[str]:
        listed = self.account.s3.list_objects_v2(Bucket=self.bucket)
        return {item["Key"] for item in listed.get("Contents", [])}

    def parameters(self) -> dict[str, str]:
        stack = self.account.cloudformation.describe_stacks(StackName=self.target.airflow_stack)["Stacks"][0]
        return {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}

    def environment_runs(self) -> list[str]:
        """Version ids of plugins.zip and requirements.txt that the stand-in was given."""
        create: Callable[..., Any] = self.account.session().client
        value: str = create("ssm").get_parameter(Name="/environment")["Parameter"]["Value"]
        return value.split(",")
