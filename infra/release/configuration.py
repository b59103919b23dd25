"""What an environment's files say: parameters of the templates, and Airflow's options on MWAA."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from infra.release.errors import ReleaseError
from infra.release.template import parameter_values, parse_template, texts

TEMPLATE = "infra/template.yaml"
SAM = "infra/samconfig.toml"
MWAA = "infra/mwaa.yaml"


def parameters_of(files: Mapping[str, str], template: str, environment: str) -> dict[str, str]:
    """Values of a template's parameters in an environment.

    Args:
        files: contents by path.
        template: path of the template.
        environment: see :class:`infra.release.project.Project`.

    Raises:
        ReleaseError: samconfig.toml has no section for it, or the template is malformed.
    """
    section = "mwaa" if template == MWAA else "deploy"
    try:
        given = tomllib.loads(files[SAM])[environment][section]["parameters"].get("parameter_overrides", [])
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ReleaseError(f"{SAM} has no [{environment}.{section}.parameters]: {error}") from error
    pairs = (pair.partition("=") for pair in given)
    return parameter_values(parse_template(files[template], template), {name: value for name, _, value in pairs})


def airflow_options(files: Mapping[str, str], environment: str) -> dict[str, str]:
    """Airflow's configuration options on MWAA, less those of secrets, which need AWS.

    Args:
        files: contents by path.
        environment: see :class:`infra.release.project.Project`.

    Raises:
        ReleaseError: what :func:`parameters_of` raises.
    """
    given = parameters_of(files, MWAA, environment)
    found: dict[str, str] = {}
    for resource in parse_template(files[MWAA], MWAA)["Resources"].values():
        if resource["Type"] == "AWS::MWAA::Environment":
            found |= texts(resource["Properties"].get("AirflowConfigurationOptions", {}), given)
    return {name: value for name, value in found.items() if not name.startswith("secrets.")}
