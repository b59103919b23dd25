"""The deployment as a list of steps, in the order in which each can rely on those before it.

What a step is made of, how it is shown, and the commands that it runs: of the project, of SAM, of git.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.release.bundle import ReleaseError
from infra.release.deployment.mwaa import Airflow, BundleBucket
from infra.release.deployment.stacks import Stacks
from infra.release.deployment.target import ALIKE, FROM_THE_APPLICATION, Target


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands in one directory; what they print goes where the deployment's own output goes."""

    root: Path
    environment: Mapping[str, str]

    def run(self, arguments: Sequence[str]) -> None:
        """Run a command to its end; raises ReleaseError if it cannot be started, or its exit code is not 0."""
        done = self._ended(arguments, "run `make setup`")
        if done.returncode != 0:
            raise ReleaseError(f"`{shlex.join(arguments)}` failed (exit code {done.returncode}); its output is above")

    def read(self, arguments: Sequence[str]) -> str:
        """What a command prints, without the end of its last line; raises ReleaseError as :meth:`run` does."""
        done = self._ended(arguments, "install it", capture_output=True, text=True)
        if done.returncode != 0:
            raise ReleaseError(f"`{shlex.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def _ended(self, arguments: Sequence[str], advice: str, **options: bool) -> subprocess.CompletedProcess[str]:
        where: dict[str, Any] = {"cwd": self.root, "env": dict(self.environment), **options}
        try:
            return subprocess.run(list(arguments), check=False, **where)  # noqa: S603 - the deployment's own
        except OSError as error:
            raise ReleaseError(f"`{arguments[0]}` cannot be run ({error.strerror}): {advice}") from error


def describe_tree(commands: Commands, *, must_be_clean: bool) -> str:
    """The commit that is deployed, with `+ local changes` where the tree is not that commit's.

    Raises:
        ReleaseError: there are local changes and there must not be, or this is no clone.
    """
    commit = commands.read(["git", "rev-parse", "--short=12", "HEAD"])
    changes = commands.read(["git", "status", "--porcelain"]).splitlines()
    if not changes:
        return commit
    if must_be_clean:
        shown = "\n".join(f"    {line}" for line in changes[:10])
        more = f"\n    and {len(changes) - 10} more" if len(changes) > 10 else ""
        raise ReleaseError(
            "prod is deployed from a commit only, and the tree differs from it; commit, or set aside (git stash -u):\n"
            f"{shown}{more}"
        )
    return f"{commit} + local changes"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is, what exactly it does (commands and targets, a line each), and the doing."""

    title: str
    details: Sequence[str]
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Files and programs of a deployment; `sam build` fills ``build``, infra.release.bundle fills ``bundle``."""

    sam: Path
    sam_config: Path
    application_template: Path
    airflow_template: Path
    build: Path
    bundle: Path


def shown(command: Sequence[str]) -> str:
    """A command as it could be typed in the repository's root."""
    root = f"{Path.cwd()}/"
    return shlex.join(part.removeprefix(root) for part in command)


def name_of(template: Path) -> str:
    """A template as people name it, with its folder."""
    return f"{template.parent.name}/{template.name}"


def pairs(parameters: Mapping[str, str]) -> str:
    """Parameters as they stand in infra/samconfig.toml."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


AIRFLOW_SECONDS = 120 * 60.0
"""How long the stack of Airflow may take: a new environment takes 20 to 40 minutes, an update 10 to 30, a rollback as
long again."""

LOOK_SECONDS = 5 * 60.0
"""How long CloudFormation may take to find out what would change."""

LEFT = "Buckets, tables, queues and secrets may be left, and in the way: infra/README.md, First deployment, step 4"
"""What a person is told of an application whose creation failed."""

VERSIONED = {"plugins.zip": "PluginsS3ObjectVersion", "requirements.txt": "RequirementsS3ObjectVersion"}
"""Files that MWAA takes by version id, with the parameters of infra/mwaa.yaml that hold these."""

_DAGS = "dags/"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Deploys the application, then Airflow, to one environment.

    The bucket of the bundle belongs to the stack of Airflow, whose environment in turn names versions of objects in
    that bucket. So the very first deployment makes that stack without the environment, which the template leaves out
    while it is given no version; all later ones find the bucket.

    Args:
        account: account id (12 digits), or a placeholder for a dry run.
        bucket: the one that infra/mwaa.yaml makes, as it makes the environment ``airflow``.
        confirm: asks the person who waits; what it asks about is done only if it returns True. None if nobody has to
            agree, or somebody has already.
        say: takes a line for that person.
        changed: names of what was changed, filled by the steps.
        versions: version ids of the uploaded files by the parameters that take them, filled by the steps.
    """

    target: Target
    account: str
    places: Places
    commands: Commands
    stacks: Stacks
    bucket: BundleBucket
    airflow: Airflow
    confirm: Callable[[str], bool] | None
    say: Callable[[str], None]
    changed: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """All steps, in their order."""
        target, places = self.target, self.places
        preflight = [sys.executable, "-m", "infra.release.preflight", "--environment", target.environment]
        bundle = [sys.executable, "-m", "infra.release.bundle", "--output", str(places.bundle)]
        build = [
            *(str(places.sam), "build", "--template-file", str(places.application_template)),
            *("--config-file", str(places.sam_config), "--build-dir", str(places.build)),
        ]
        deploy = [
            *(str(places.sam), "deploy", "--template-file", str(places.build / "template.yaml")),
            *("--config-file", str(places.sam_config), "--config-env", target.environment, "--no-progressbar"),
        ]
        # Asked by itself, SAM ends as if all were well when a person says no.
        look = [*deploy, "--no-execute-changeset"] if self.confirm else None
        deploy = [*deploy, "--no-confirm-changeset"]
        bucket = self.bucket.name
        versions = ", ".join(f"{parameter}=<version of {key}>" for key, parameter in VERSIONED.items())
        return [
            Step("Preflight: what makes a slow update fail", [shown(preflight)], lambda: self.commands.run(preflight)),
            Step("Bundle: what MWAA runs", [shown(bundle)], lambda: self.commands.run(bundle)),
            Step("Build the functions", [shown(build)], lambda: self.commands.run(build)),
            Step(
                "Deploy the application",
                [
                    *([shown(look), "then, once a person agrees"] if look else []),
                    shown(deploy),
                    f"stack {target.application_stack} in account {self.account}, {target.region}",
                ],
                lambda: self._deploy_application(look, deploy),
            ),
            Step(
                "Make the bucket of the bundle, at the first deployment",
                [f"{name_of(places.airflow_template)} as stack {target.airflow_stack}, without an environment yet"],
                self._make_bucket,
            ),
            Step(
                "Upload the bundle, where it differs",
                [f"{places.bundle.name}/{key} to s3://{bucket}/{key}" for key in VERSIONED],
                self._upload,
            ),
            Step(
                "Update the environment, and wait",
                [
                    f"{name_of(places.airflow_template)} as stack {target.airflow_stack}",
                    f"with {versions}",
                    *([f"and {pairs(target.airflow_parameters)}"] if target.airflow_parameters else []),
                    f"at most {AIRFLOW_SECONDS / 60:.0f} minutes",
                ],
                self._update_environment,
            ),
            Step(
                "Make sure that the environment has its requirements",
                [f"log group {target.scheduler_log_group}, streams requirements_install*"],
                self.airflow.check,
            ),
            # Last: a DAG that is picked up before its plugins is broken until they are there.
            Step(
                "Sync the DAGs",
                [f"{places.bundle.name}/{_DAGS} to s3://{bucket}/{_DAGS}, deleting there what is not here"],
                self._sync,
            ),
        ]

    def _deploy_application(self, look: Sequence[str] | None, command: Sequence[str]) -> None:
        stack = self.target.application_stack
        # SAM would only say that it cannot be updated.
        self.stacks.check_made(stack, LEFT)
        before = self.stacks.resources(stack)
        if look:
            self.commands.run(look)
            self.stacks.tell_nested(stack, timeout=LOOK_SECONDS)
            self._agree(f"Change the stack {stack} as shown?")
        self.commands.run(command)
        if self.stacks.resources(stack) != before:
            self.changed.append("the application")

    def _make_bucket(self) -> None:
        if self.stacks.outputs(self.target.airflow_stack) is not None:
            self.say("    it is there")
            return
        self._deploy_airflow({})
        self.changed.append("the network and the bucket")

    def _upload(self) -> None:
        self._agree(f"Upload the bundle to s3://{self.bucket.name}, and the DAGs in the end?")
        for key, parameter in VERSIONED.items():
            upload = self.bucket.put(key, self.places.bundle / key)
            self.say(f"    {key}: {'uploaded as' if upload.changed else 'unchanged,'} version {upload.version}")
            self.versions[parameter] = upload.version
            if upload.changed:
                self.changed.append(key)

    def _update_environment(self) -> None:
        if self._deploy_airflow(self.versions):
            self.changed.append("the environment")
        else:
            self.say("    it is up to date")

    def _deploy_airflow(self, versions: Mapping[str, str]) -> bool:
        application = self.stacks.outputs(self.target.application_stack)
        if application is None:
            raise ReleaseError(f"there is no stack {self.target.application_stack}: it must be deployed before Airflow")
        given = self.stacks.parameters(self.target.application_stack)
        parameters = {
            **self.target.airflow_parameters,
            "Environment": self.target.environment,
            **{name: application[name] for name in FROM_THE_APPLICATION},
            **{name: given[name] for name in ALIKE},
            **versions,
        }
        template = self.places.airflow_template.read_text(encoding="utf-8")
        try:
            return self.stacks.deploy(self.target.airflow_stack, template, parameters, timeout=AIRFLOW_SECONDS)
        except ReleaseError as error:
            why = self.airflow.why_failed() if versions else ""
            if not why:
                raise
            raise ReleaseError(
                f"{error}\nMWAA says: {why}\nIts log group: {self.target.scheduler_log_group}"
            ) from error

    def _agree(self, question: str) -> None:
        if self.confirm and not self.confirm(question):
            raise ReleaseError("nobody agreed: it was left as it is, and so was all that comes after it")

    def _sync(self) -> None:
        done = self.bucket.sync(self.places.bundle / _DAGS, _DAGS)
        for key in done.uploaded:
            self.say(f"    uploaded {key}")
        for key in done.deleted:
            self.say(f"    deleted {key}")
        self.say(f"    {done.unchanged} unchanged")
        if done.uploaded or done.deleted:
            self.changed.append("the DAGs")
