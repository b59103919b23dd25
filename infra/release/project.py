"""A project as the preflight sees it: one value, from which every check reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infra.release.airflow import Airflow
from infra.release.configuration import MWAA, SAM, TEMPLATE, parameters_of
from infra.release.findings import Amount, MissingFactError, UndecidedError
from infra.release.packages import Packages
from infra.release.template import number, parse_template, settings_in

REQUIREMENTS = "requirements.txt"
CONSTRAINTS = "requirements/constraints.txt"
LOCAL = "requirements/local.txt"
TEXTS = (TEMPLATE, MWAA, SAM, REQUIREMENTS, CONSTRAINTS, LOCAL)
FOLDERS = ("dags", "plugins", "include")
TASKS_OF_A_WORKER = {"mw1.small": 5, "mw1.medium": 10, "mw1.large": 20, "mw1.xlarge": 40, "mw1.2xlarge": 80}
"""Tasks that a worker of MWAA runs at once, unless ``celery.worker_autoscale`` says otherwise (MWAA's user guide,
"Environment class")."""

ENVIRONMENTS = ("dev", "staging", "prod")
SETTINGS_RESOURCE = "SettingsSecret"


@dataclass(frozen=True)
class Project:
    """All that the checks look at; none of them opens a file.

    Args:
        environment: ``dev``, ``staging`` or ``prod``: whose parameters of the template count.
        texts: contents of :data:`TEXTS`, by path.
        sources: contents of the files of :data:`FOLDERS`, by path.
        airflow: what Airflow makes of them.
        packages: what is installed beside this command.
    """

    environment: str
    texts: Mapping[str, str]
    sources: Mapping[str, bytes]
    airflow: Airflow
    packages: Packages

    @cached_property
    def template(self) -> dict[str, Any]:
        """The application template."""
        return parse_template(self.texts[TEMPLATE], TEMPLATE)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Values of the template's parameters in this environment."""
        return parameters_of(self.texts, TEMPLATE, self.environment)

    @cached_property
    def _settings(self) -> dict[str, float]:
        secret = self.template["Resources"].get(SETTINGS_RESOURCE, {}).get("Properties", {}).get("SecretString", "")
        return settings_in(secret, self.parameters)

    def constant(self, name: str, what: str, unit: str = "s") -> Amount:
        """A constant of the code by its dotted name, as ``include.auction.times.RUN``.

        Raises:
            MissingFactError: there is none of that name.
            UndecidedError: its module cannot be imported.
        """
        path, _, own = _file_of(name)
        if name not in self.airflow.constants:
            if any(name.startswith(f"{module}.") for module in self.airflow.modules):
                raise UndecidedError
            raise MissingFactError(f"{path}: {own}", "if it was renamed, name it anew in infra/release/checks")
        return Amount(self.airflow.constants[name], what, f"{own} in {path}", unit)

    def setting(self, name: str, what: str, unit: str = "") -> Amount:
        """A setting as the template writes it, or its default.

        Raises:
            MissingFactError: there is no such setting.
        """
        if name in self._settings:
            return Amount(self._settings[name], what, f"setting {name} ({SETTINGS_RESOURCE} in {TEMPLATE})", unit)
        default = self.airflow.settings.get(name, {}).get("default")
        if default is None:
            raise MissingFactError(
                f"plugins/airflow_ext/settings.py: {name}", "if it was renamed, name it anew in infra/release/checks"
            )
        return Amount(default, what, f"setting {name} (default in plugins/airflow_ext/settings.py)", unit)

    def option(self, name: str, what: str, unit: str = "") -> Amount:
        """A configuration option of Airflow, ``<section>.<name>``."""
        return Amount(self.airflow.options[name], what, f"Airflow's option {name}", unit)

    def client(self, name: str, field: str, what: str, unit: str = "s") -> Amount:
        """What a client of AWS is made with."""
        return Amount(self.airflow.clients[name][field], what, f"{name}_client() in airflow_ext/hooks/aws.py", unit)

    def dag(self, dag_id: str, field: str, what: str, unit: str = "s") -> Amount:
        """A limit of a DAG.

        Raises:
            MissingFactError: there is no such DAG, or it has no such limit.
            UndecidedError: its file cannot be loaded.
        """
        where = f"{field} in dags/{dag_id}.py"
        return _given(self._dag(dag_id).get(field), what, where, unit)

    def task(self, dag_id: str, task_id: str, field: str, what: str, unit: str = "s") -> Amount:
        """A limit of a task; raises what :meth:`dag` raises."""
        where = f"{field} of {task_id} in dags/{dag_id}.py"
        tasks = self._dag(dag_id)["tasks"]
        if task_id not in tasks:
            raise MissingFactError(where, "if the task was renamed, name it anew in infra/release/checks")
        return _given(tasks[task_id].get(field), what, where, unit)

    def _dag(self, dag_id: str) -> dict[str, Any]:
        file = self.airflow.dags.get(dag_id, {"dags": {}, "errors": []})
        if file["errors"]:
            raise UndecidedError
        if dag_id not in file["dags"]:
            raise MissingFactError(f"dags/{dag_id}.py", "if the DAG was renamed, name it anew in infra/release/checks")
        described: dict[str, Any] = file["dags"][dag_id]
        return described

    def resource(self, name: str, field: str, what: str, *, default: float | None = None, unit: str = "s") -> Amount:
        """A number among the properties of a resource of the template.

        Raises:
            MissingFactError: it is not there, nor a default.
        """
        where = f"{field} of {name} in {TEMPLATE}"
        found = number(self.template["Resources"].get(name, {}).get("Properties", {}).get(field), self.parameters)
        return _given(default if found is None else found, what, where, unit)

    def worker_slots(self) -> Amount:
        """Tasks that the environment's workers run at once.

        Raises:
            MissingFactError: the class of the environment is not known.
        """
        given = parameters_of(self.texts, MWAA, self.environment)
        where = f"parameters EnvironmentClass and MaxWorkers of {MWAA} ({self.environment} in {SAM})"
        each, workers = TASKS_OF_A_WORKER.get(given.get("EnvironmentClass", "")), number(given.get("MaxWorkers"), {})
        what = f"slots of the workers of {self.environment}"
        return _given(None if each is None or workers is None else each * workers, what, where, "")

    def parameter(self, name: str, what: str) -> Amount:
        """A parameter of the template.

        Raises:
            MissingFactError: there is none, or it is no number.
        """
        found = number({"Ref": name}, self.parameters)
        return _given(found, what, f"parameter {name} of {TEMPLATE}", "")


def _given(value: float | None, what: str, where: str, unit: str) -> Amount:
    if value is None:
        raise MissingFactError(where, f"give it: {what}; or name it anew in infra/release/checks")
    return Amount(value, what, where, unit)


def _file_of(name: str) -> tuple[str, str, str]:
    """The file of a constant, its module, and its own name."""
    parts = name.split(".")
    # A field of a class has two names of its own.
    cut = next(index for index, part in enumerate(parts) if part != part.lower())
    module = ".".join(parts[:cut])
    folder = "plugins/" if module.startswith("airflow_ext") else ""
    return f"{folder}{module.replace('.', '/')}.py", module, ".".join(parts[cut:])
