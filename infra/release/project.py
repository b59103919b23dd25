"""A project as the preflight sees it, read from its folder once for all of its environments, and what a check says.

It holds what an environment's files say (parameters of the templates, Airflow's options on MWAA), what this interpreter
has installed, and what of it MWAA would have.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.release.airflow import Airflow, probe
from infra.release.bundle import ReleaseError, source_files
from infra.release.deployment.target import ALIKE
from infra.release.templates import parse_template, whole_template

_NUMBER_OF_SETTING = re.compile(r'"(?P<name>\w+)":\s*(?P<value>-?\d+(\.\d+)?|\$\{\w+\})')


def parameter_values(template: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, str]:
    """Values of a template's parameters: the overrides, else their defaults; those without are left out."""
    defaults = {
        name: str(parameter["Default"])
        for name, parameter in template.get("Parameters", {}).items()
        if "Default" in parameter
    }
    return defaults | {name: value for name, value in overrides.items() if name in template.get("Parameters", {})}


def number(value: Any, parameters: Mapping[str, str]) -> float | None:
    """A property that is a number, or refers to a parameter that is one; None if it is neither."""
    if isinstance(value, dict):
        value = parameters.get(str(value.get("Ref")))
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def texts(values: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """Properties that are texts, with parameters by their values; those that refer to anything else are left out."""
    found = {}
    for name, value in values.items():
        text = parameters.get(value["Ref"]) if isinstance(value, dict) and "Ref" in value else value
        if isinstance(text, dict) and isinstance(text.get("Fn::Sub"), str):
            text = re.sub(r"\$\{(\w+)\}", lambda match: parameters.get(match[1], match[0]), text["Fn::Sub"])
        if isinstance(text, str) and "${" not in text:
            found[name] = text
    return found


def settings_in(secret: Any, parameters: Mapping[str, str]) -> dict[str, float]:
    """The numbers among a template's settings, which ``SecretString`` holds as a text or as ``Fn::Sub`` of one."""
    text = secret["Fn::Sub"] if isinstance(secret, dict) and "Fn::Sub" in secret else secret
    text = text[0] if isinstance(text, list) else text
    found: dict[str, float] = {}
    for match in _NUMBER_OF_SETTING.finditer(str(text)):
        value = match["value"]
        given = number({"Ref": value[2:-1]} if value.startswith("$") else value, parameters)
        if given is not None:
            found[match["name"]] = given
    return found


TEMPLATE = "infra/template.yaml"
SAM = "infra/samconfig.toml"
MWAA = "infra/mwaa.yaml"


def given_parameters(files: Mapping[str, str], template: str, environment: str) -> tuple[str, dict[str, str]]:
    """The section of samconfig.toml for a template in an environment, and the values that it gives, by name.

    ``files`` are contents by path, the template is a path.

    Raises:
        ReleaseError: there is no such section, or what it gives is no list, or SAM would read it otherwise.
    """
    section = f"[{environment}.{'mwaa' if template == MWAA else 'deploy'}.parameters]"
    try:
        found: Any = tomllib.loads(files[SAM])
        for name in section.strip("[]").split("."):
            found = found[name]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ReleaseError(f"{SAM} has no {section}: {error}") from error
    given = found.get("parameter_overrides", [])
    if not isinstance(given, list):
        # SAM takes a text, too.
        raise ReleaseError(f'{SAM}, {section}: parameter_overrides must be a list, ["Name=value", ...]')
    pairs = (str(pair).partition("=") for pair in given)
    read = str if template == MWAA else _as_sam_reads_it
    try:
        return section, {name: read(value) for name, _, value in pairs}
    except ValueError as error:
        raise ReleaseError(f"{SAM}, {section}: {error}") from error


def _as_sam_reads_it(value: str) -> str:
    if quoted := re.fullmatch(r"""(["'])(.*)\1""", value):
        return quoted[2]
    if not value or " " in value:
        raise ValueError(f'SAM takes nothing empty, and nothing behind a blank: write "Name=\\"{value}\\""')
    return value


def parameters_of(files: Mapping[str, str], template: str, environment: str) -> dict[str, str]:
    """Values of a template's parameters in an environment; arguments and errors as of :func:`given_parameters`."""
    _, given = given_parameters(files, template, environment)
    return parameter_values(parse_template(files[template], template), given)


def airflow_options(files: Mapping[str, str], environment: str) -> dict[str, str]:
    """Airflow's options on MWAA, less those of secrets, which need AWS; arguments as of :func:`parameters_of`."""
    application = parameters_of(files, TEMPLATE, environment)
    # As a deployment hands them on.
    given = parameters_of(files, MWAA, environment) | {name: application[name] for name in ALIKE}
    found: dict[str, str] = {}
    for resource in parse_template(files[MWAA], MWAA)["Resources"].values():
        if resource["Type"] == "AWS::MWAA::Environment":
            found |= texts(resource["Properties"].get("AirflowConfigurationOptions", {}), given)
    return {name: value for name, value in found.items() if not name.startswith("secrets.")}


IMAGE = Path(__file__).with_name("mwaa_image.txt")
"""What MWAA's image installs."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package, with its dependencies as its metadata states them."""

    version: str
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed.

    Args:
        installed: by normalized name.
        providers: names of the packages that bring a top-level module, by the module's name.
        image: what the image of MWAA is made of, as lines of a list of requirements.
    """

    installed: Mapping[str, Package]
    providers: Mapping[str, tuple[str, ...]]
    image: tuple[str, ...]

    def closure(self, lines: Iterable[str]) -> set[str]:
        """Normalized names of what is installed by lines of a list of requirements, with all that they need."""
        todo = [Requirement(line) for line in lines]
        seen: set[tuple[str, frozenset[str]]] = set()
        while todo:
            requirement = todo.pop()
            key = canonicalize_name(requirement.name), frozenset(requirement.extras)
            if key not in seen:
                seen.add(key)
                todo.extend(needs(self.installed.get(key[0]), key[1]))
        return {name for name, _ in seen}


def installed_packages() -> Packages:
    """What this interpreter has."""
    found: dict[str, Package] = {
        canonicalize_name(each.name): Package(each.version, tuple(each.requires or ())) for each in distributions()
    }
    providers = {name: tuple({*map(canonicalize_name, names)}) for name, names in packages_distributions().items()}
    image = [line.partition("#")[0].strip() for line in IMAGE.read_text().splitlines()]
    return Packages(found, providers, tuple(line for line in image if line))


def needs(package: Package | None, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a package needs on this interpreter; nothing is known of one that is not installed."""
    yield from _needs(package.requires, extras) if package else ()


@cache
def _needs(lines: tuple[str, ...], extras: frozenset[str]) -> tuple[Requirement, ...]:
    found = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.append(requirement)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Args:
        check: name of the check, ``family/what``.
        ok: nothing is to be changed.
        where: file, and what in it.
        message: what holds, or what is wrong.
        change: what to change; empty if nothing is.
    """

    check: str
    ok: bool
    where: str
    message: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of the project, and where it comes from.

    Args:
        value: in ``unit``.
        what: for people.
        where: file, and what in it.
        unit: ``s`` or another short name; empty for a count.
    """

    value: float
    what: str
    where: str
    unit: str = ""

    def __str__(self) -> str:
        """What it is, and how much."""
        value = f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:,.2f}"
        return f"{self.what} ({value}{' ' if self.unit else ''}{self.unit})"


class MissingFactError(Exception):
    """What a check compares is not where it was."""

    def __init__(self, where: str, change: str) -> None:
        super().__init__(where)
        self.where = where
        self.change = change


class UndecidedError(Exception):
    """What a check compares lies in a file that cannot be loaded, which another check tells."""


def good(check: str, where: str, message: str) -> Finding:
    """What is as it should be."""
    return Finding(check, ok=True, where=where, message=message)


def bad(check: str, where: str, message: str, change: str) -> Finding:
    """What is to be changed."""
    return Finding(check, ok=False, where=where, message=message, change=change)


def at_most(check: str, low: Amount, high: Amount, why: str, *, less: bool = False) -> Finding:
    """``low`` must be no more than ``high``, or less than it; ``why`` is what would happen otherwise, a clause."""
    relation = "less than" if less else "at most"
    if low.value < high.value or (low.value == high.value and not less):
        return good(check, low.where, f"{low} is {relation} {high}")
    change = f"lower {low.where}" + (f", or raise {high.where}" if high.where else "")
    return bad(check, low.where, f"{low} must be {relation} {high}: otherwise {why}", change)


REQUIREMENTS = "requirements.txt"
CONSTRAINTS = "requirements/constraints.txt"
LOCAL = "requirements/local.txt"
TEXTS = (TEMPLATE, MWAA, SAM, REQUIREMENTS, CONSTRAINTS, LOCAL)
"""Files that are read, beside the nested stacks of the templates (see :func:`text_files`)."""

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
        texts: contents of :func:`text_files`, by path.
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
        """The application template, with its nested stacks in it."""
        return whole_template(TEMPLATE, self.texts.__getitem__)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Values of the template's parameters in this environment."""
        return parameters_of(self.texts, TEMPLATE, self.environment)

    @cached_property
    def _settings(self) -> dict[str, float]:
        secret = self.template["Resources"].get(SETTINGS_RESOURCE, {}).get("Properties", {}).get("SecretString", "")
        return settings_in(secret, self.parameters)

    def constant(self, name: str) -> Amount:
        """A constant of the code by its dotted name, as ``include.auction.deadlines.RUN``.

        Raises:
            MissingFactError: there is none of that name.
            UndecidedError: its module cannot be imported.
        """
        path, _, own = _file_of(name)
        if name not in self.airflow.constants:
            if any(name.startswith(f"{module}.") for module in self.airflow.modules):
                raise UndecidedError
            raise MissingFactError(f"{path}: {own}", "if it was renamed, name it anew in infra/release/checks")
        return Amount(self.airflow.constants[name], own, f"{own} in {path}")

    def setting(self, name: str) -> Amount:
        """A setting as the template writes it, or its default; MissingFactError if there is no such setting."""
        if name in self._settings:
            return Amount(self._settings[name], name, f"setting {name} ({SETTINGS_RESOURCE} in {TEMPLATE})")
        default = self.airflow.settings.get(name, {}).get("default")
        if default is None:
            raise MissingFactError(
                f"plugins/airflow_ext/settings.py: {name}", "if it was renamed, name it anew in infra/release/checks"
            )
        return Amount(default, name, f"setting {name} (default in plugins/airflow_ext/settings.py)")

    def option(self, name: str) -> Amount:
        """A configuration option of Airflow, ``<section>.<name>``."""
        return Amount(self.airflow.options[name], name, f"Airflow's option {name}")

    def client(self, name: str, field: str) -> Amount:
        """What a client of AWS is made with."""
        what = f"{field} of {name}_client()"
        return Amount(self.airflow.clients[name][field], what, f"{what} in airflow_ext/hooks/aws.py")

    def dag(self, dag_id: str, field: str) -> Amount:
        """A limit of a DAG.

        Raises:
            MissingFactError: there is no such DAG, or it has no such limit.
            UndecidedError: its file cannot be loaded.
        """
        where = f"schedule of dags/{dag_id}.py" if field == "interval" else f"{field} in dags/{dag_id}.py"
        return _given(self._dag(dag_id).get(field), f"{field} of {dag_id}", where)

    def task(self, dag_id: str, task_id: str, field: str) -> Amount:
        """A limit of a task; raises what :meth:`dag` raises."""
        where = f"{field} of {task_id} in dags/{dag_id}.py"
        tasks = self._dag(dag_id)["tasks"]
        if task_id not in tasks:
            raise MissingFactError(where, "if the task was renamed, name it anew in infra/release/checks")
        return _given(tasks[task_id].get(field), f"{field} of {task_id}", where)

    def _dag(self, dag_id: str) -> dict[str, Any]:
        file = self.airflow.dags.get(dag_id, {"dags": {}, "errors": []})
        if file["errors"]:
            raise UndecidedError
        if dag_id not in file["dags"]:
            raise MissingFactError(f"dags/{dag_id}.py", "if the DAG was renamed, name it anew in infra/release/checks")
        described: dict[str, Any] = file["dags"][dag_id]
        return described

    def resource(self, name: str, field: str, default: float | None = None) -> Amount:
        """A number among the properties of a resource of the template, or the default; else MissingFactError."""
        files = (path for path, text in self.texts.items() if f"\n  {name}:\n" in text)
        where = f"{field} of {name} in {next(files, TEMPLATE)}"
        found = number(self.template["Resources"].get(name, {}).get("Properties", {}).get(field), self.parameters)
        return _given(default if found is None else found, f"{field} of {name}", where)

    def worker_slots(self) -> Amount:
        """Tasks that the environment's workers run at once; MissingFactError if its class is not known."""
        given = parameters_of(self.texts, MWAA, self.environment)
        where = f"parameters EnvironmentClass and MaxWorkers of {MWAA} ({self.environment} in {SAM})"
        each, workers = TASKS_OF_A_WORKER.get(given.get("EnvironmentClass", "")), number(given.get("MaxWorkers"), {})
        what = f"slots of the workers of {self.environment}"
        return _given(None if each is None or workers is None else each * workers, what, where)

    def workers(self, name: str) -> Amount:
        """A parameter of Airflow's template that is a number of workers; MissingFactError if it is none."""
        found = number(parameters_of(self.texts, MWAA, self.environment).get(name), {})
        return _given(found, name, f"parameter {name} of {MWAA} ({self.environment} in {SAM})")

    def parameter(self, name: str) -> Amount:
        """A parameter of the template; MissingFactError if there is none, or it is no number."""
        found = number({"Ref": name}, self.parameters)
        return _given(found, name, f"parameter {name} of {TEMPLATE}")


def _given(value: float | None, what: str, where: str) -> Amount:
    if value is None:
        raise MissingFactError(where, "give it, or name it anew in infra/release/checks")
    return Amount(value, what, where)


def _file_of(name: str) -> tuple[str, str, str]:
    """The file of a constant, its module, and its own name."""
    parts = name.split(".")
    # A field of a class has two names of its own.
    cut = next(index for index, part in enumerate(parts) if part != part.lower())
    module = ".".join(parts[:cut])
    folder = "plugins/" if module.startswith("airflow_ext") else ""
    return f"{folder}{module.replace('.', '/')}.py", module, ".".join(parts[cut:])


def text_files(root: Path) -> list[str]:
    """Paths of the files that a project is read from, beside its sources, from its root."""
    return [*TEXTS, *(path.relative_to(root).as_posix() for path in sorted(root.glob("infra/stacks/*.yaml")))]


def read_projects(root: Path, environments: Sequence[str]) -> list[Project]:
    """Read the project at ``root`` as each of some environments sees it, and have Airflow load it.

    Raises:
        ReleaseError: a file is missing or cannot be read, or Airflow gives no answer.
    """
    files = {}
    for name in text_files(root):
        try:
            files[name] = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseError(f"{root / name} cannot be read ({error}): is {root} the project's root?") from error
    sources = {
        f"{folder}/{name}": content for folder in FOLDERS for name, content in source_files(root, folder).items()
    }
    packages = installed_packages()
    # Loading takes seconds, and comes out the same for environments with the same options.
    loaded: dict[tuple[tuple[str, str], ...], Airflow] = {}
    projects = []
    for environment in environments:
        options = airflow_options(files, environment)
        key = tuple(sorted(options.items()))
        if key not in loaded:
            loaded[key] = probe(sources, options)
        projects.append(Project(environment, files, sources, loaded[key], packages))
    return projects
