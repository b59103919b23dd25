"""The templates of Airflow, of the delivery and of whoever deploys: the emulator makes all of them that it knows."""

import json
import time
from collections.abc import Mapping

import pytest

from infra.release.deployment.stacks import Stacks
from tests.integration.conftest import Aws
from tests.integration.deployments import held, new_account

POLICY = "arn:aws:iam::123456789012:policy/anything"
TOPIC = "arn:aws:sns:us-east-1:123456789012:anything"
MWAA_PARAMETERS = {
    "Environment": "dev",
    "PipelinePolicyArn": POLICY,
    "ArchivePolicyArn": POLICY,
    "AuctionPolicyArn": POLICY,
    "CallDetailsPolicyArn": POLICY,
    "EventDeliveryPolicyArn": POLICY,
    "AlertsTopicArn": TOPIC,
}


def make(account: Aws, name: str, template: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Make a stack as a deployment does; returns the state of each of its resources by logical id."""
    stacks = Stacks(account.cloudformation, print, lambda _: True, time.monotonic, lambda _: time.sleep(0.2))
    assert stacks.deploy(name, template, parameters, timeout=60)
    found = account.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return {item["LogicalResourceId"]: item["ResourceStatus"] for item in found}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (
            "mwaa.yaml",
            {
                **MWAA_PARAMETERS,
                "PluginsS3ObjectVersion": "1",
                "RequirementsS3ObjectVersion": "2",
                "NatGateways": "2",
                "InterfaceEndpoints": "true",
                "PeeringConnectionId": "pcx-0123456789abcdef0",
                "PeerCidr": "10.50.0.0/16",
            },
        ),
        (
            "pipeline.yaml",
            {
                "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/anything",
                "Repository": "acme/pipelines",
                "DevRoleArn": "arn:aws:iam::123456789012:role/deploy-pipelines-dev",
                "StagingRoleArn": "arn:aws:iam::123456789012:role/deploy-pipelines-staging",
                "ProdRoleArn": "arn:aws:iam::123456789012:role/deploy-pipelines-prod",
                "NotificationEmail": "oncall@example.com",
            },
        ),
        (
            "deploy-role.yaml",
            {
                "Environment": "dev",
                "GitHubRepository": "acme/pipelines",
                "GitHubProviderArn": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
                "DeliveryAccountId": "123456789012",
                "DeployerArn": "arn:aws:iam::123456789012:role/operators",
            },
        ),
    ],
)
def test_emulator_creates_everything_of_a_template_that_it_knows(
    emulator: str, name: str, parameters: Mapping[str, str]
) -> None:
    template = held(name)
    made = make(new_account(emulator), name.partition(".")[0], template, parameters)
    assert set(made) == set(json.loads(template)["Resources"]) - {"GitHubProvider"}
    assert set(made.values()) == {"CREATE_COMPLETE"}
