import tomllib
from pathlib import Path

import pytest

from infra.release.bundle import ReleaseError
from infra.release.deploy import PLACES
from infra.release.deployment.target import ENVIRONMENTS, read_target

GOOD = """
[dev.deploy.parameters]
stack_name = "pipelines-dev"
region = "eu-west-1"
[dev.mwaa.parameters]
stack_name = "pipelines-mwaa-dev"
account = "123456789012"
parameter_overrides = ["MaxWorkers=7", "ArchiveSchedule=0 6 * * *"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "samconfig.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_target_is_what_the_two_sections_say(tmp_path: Path) -> None:
    target = read_target(written(tmp_path, GOOD), "dev")
    assert (target.region, target.account) == ("eu-west-1", "123456789012")
    assert (target.application_stack, target.airflow_stack) == ("pipelines-dev", "pipelines-mwaa-dev")
    assert target.airflow_parameters == {"MaxWorkers": "7", "ArchiveSchedule": "0 6 * * *"}
    assert not target.is_production


def test_others_are_the_environments_of_the_same_region_alone(tmp_path: Path) -> None:
    sections = "\n".join(
        f'[{name}.deploy.parameters]\nstack_name = "pipelines-{name}"\nregion = "{region}"'
        for name, region in (("staging", "eu-west-1"), ("prod", "us-east-1"), ("local", "eu-west-1"))
    )
    assert read_target(written(tmp_path, GOOD + sections), "dev").others == ("pipelines-staging",)
    assert read_target(written(tmp_path, GOOD), "dev").others == ()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_of_the_project_can_be_deployed(environment: str) -> None:
    target = read_target(PLACES.sam_config, environment)
    assert target.application_stack == f"pipelines-{environment}"
    assert target.airflow_stack == f"pipelines-mwaa-{environment}"
    assert target.is_production is (environment == "prod")
    # SAM reads the file itself: both stacks have the tag by which the deploying role knows what is theirs.
    sam = tomllib.loads(PLACES.sam_config.read_text(encoding="utf-8"))[environment]["deploy"]["parameters"]
    assert [sam["tags"]] == [f"{name}={value}" for name, value in target.tags.items()]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[dev.mwaa.parameters]", "[dev.other.parameters]", r"no section \[dev\.mwaa\.parameters\]: copy that of dev"),
        ("[dev.deploy.parameters]", "[dev.other.parameters]", r"no section \[dev\.deploy\.parameters\]"),
        ('region = "eu-west-1"', "", r"\[dev\.deploy\.parameters\]: region is missing"),
        ('stack_name = "pipelines-mwaa-dev"', "", r"\[dev\.mwaa\.parameters\]: stack_name is missing"),
        ('"123456789012"', "123456789012", "account must be 12 digits in quotes"),
        ('"123456789012"', '"1234"', "account must be 12 digits in quotes"),
        ("MaxWorkers=7", "MaxWorkers", '"MaxWorkers" is not of the form "Name=value"'),
        ("MaxWorkers=7", "Environment=prod", "Environment is filled in by the deployment; remove it"),
    ],
)
def test_mistake_in_a_section_is_reported_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ReleaseError, match=message):
        read_target(written(tmp_path, GOOD.replace(old, new)), "dev")
