"""Where a deployment goes: one environment, as infra/samconfig.toml has it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.release.bundle import ReleaseError

ENVIRONMENTS = ("dev", "staging", "prod")
"""What can be deployed; `local` belongs to the local stack."""

FROM_THE_APPLICATION = (
    "PipelinePolicyArn",
    "ArchivePolicyArn",
    "AuctionPolicyArn",
    "CallDetailsPolicyArn",
    "EventDeliveryPolicyArn",
    "AlertsTopicArn",
)
"""Parameters of infra/mwaa.yaml that are outputs of the application's stack, of the same names."""

ALIKE = ("BusinessTimezone", "RunbookUrl")
"""Parameters that both templates have; the application's values count."""

FILLED_IN = frozenset(
    {
        *FROM_THE_APPLICATION,
        "Environment",
        *ALIKE,
        "PluginsS3ObjectVersion",
        "RequirementsS3ObjectVersion",
    }
)
"""Parameters of infra/mwaa.yaml that a deployment knows better than a file could."""


@dataclass(frozen=True, slots=True)
class Target:
    """One environment to deploy.

    Args:
        environment: `dev`, `staging` or `prod`.
        region: AWS region of both stacks.
        account: account id (12 digits) that it must be, or None for that of the credentials.
        application_stack: name of the stack of infra/template.yaml.
        airflow_stack: name of the stack of infra/mwaa.yaml.
        airflow_parameters: parameters of infra/mwaa.yaml that differ from its defaults, {name: value}.
        others: application stacks of the other environments in this region, which cannot be in one account with it.
    """

    environment: str
    region: str
    account: str | None
    application_stack: str
    airflow_stack: str
    airflow_parameters: Mapping[str, str]
    others: tuple[str, ...] = ()

    @property
    def is_production(self) -> bool:
        """Whether a person has to agree, and the tree has to be that of a commit."""
        return self.environment == "prod"

    @property
    def tags(self) -> Mapping[str, str]:
        """Tag of all that the stacks make, by which infra/deploy-role.yaml knows it; samconfig.toml has it for SAM."""
        return {"pipelines": self.environment}

    @property
    def airflow_name(self) -> str:
        """Name of the environment on MWAA, as infra/mwaa.yaml writes it."""
        return f"pipelines-{self.environment}"

    @property
    def scheduler_log_group(self) -> str:
        """Log group in which MWAA tells what became of the requirements."""
        return f"airflow-{self.airflow_name}-Scheduler"

    def source_bucket(self, account: str) -> str:
        """Name of the bucket that infra/mwaa.yaml makes in an account (12 digits, or a placeholder)."""
        return f"pipelines-mwaa-{self.environment}-{account}"


def read_target(path: Path, environment: str) -> Target:
    """The environment's sections `deploy` and `mwaa` in a samconfig.toml.

    Raises:
        ReleaseError: a section or field is missing or malformed.
    """
    with path.open("rb") as file:
        document = tomllib.load(file)
    sections = document.get(environment, {})
    application = _parameters(sections, environment, "deploy", path)
    airflow = _parameters(sections, environment, "mwaa", path)
    account = airflow.get("account")
    if account is not None and not (isinstance(account, str) and len(account) == 12 and account.isdigit()):
        raise ReleaseError(f'{path.name}, [{environment}.mwaa.parameters]: account must be 12 digits in quotes ("...")')
    region = _text(application, "region", f"{path.name}, [{environment}.deploy.parameters]")
    others = [document.get(name, {}).get("deploy", {}).get("parameters", {}) for name in ENVIRONMENTS]
    return Target(
        environment=environment,
        region=region,
        account=account,
        application_stack=_text(application, "stack_name", f"{path.name}, [{environment}.deploy.parameters]"),
        airflow_stack=_text(airflow, "stack_name", f"{path.name}, [{environment}.mwaa.parameters]"),
        airflow_parameters=_overrides(airflow, f"{path.name}, [{environment}.mwaa.parameters]"),
        others=tuple(
            str(other["stack_name"])
            for other in others
            if other is not application and other.get("region") == region and "stack_name" in other
        ),
    )


def _parameters(sections: Mapping[str, Any], environment: str, command: str, path: Path) -> Mapping[str, Any]:
    parameters = sections.get(command, {}).get("parameters")
    if not isinstance(parameters, dict):
        raise ReleaseError(f"{path.name} has no section [{environment}.{command}.parameters]: copy that of dev")
    return parameters


def _text(section: Mapping[str, Any], name: str, place: str) -> str:
    value = section.get(name)
    if not isinstance(value, str) or not value:
        raise ReleaseError(f"{place}: {name} is missing")
    return value


def _overrides(section: Mapping[str, Any], place: str) -> dict[str, str]:
    overrides: dict[str, str] = {}
    for entry in section.get("parameter_overrides", []):
        name, equals, value = str(entry).partition("=")
        if not equals or not name:
            raise ReleaseError(f'{place}: "{entry}" is not of the form "Name=value"')
        if name in FILLED_IN:
            raise ReleaseError(f"{place}: {name} is filled in by the deployment; remove it")
        overrides[name] = value
    return overrides
