import argparse
import io
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError
from infra.release.deploy import PLACES, UNKNOWN_ACCOUNT, assemble, check_alone, command_environment, deploy, main
from infra.release.deployment.stacks import Stacks
from infra.release.deployment.steps import Commands, Deployment, Step, describe_tree
from infra.release.deployment.target import Target, read_target
from tests.worlds.cloudformation import FakeCloudFormation

TITLES = [
    "Preflight",
    "Bundle",
    "Build the functions",
    "Deploy the application",
    "Make the bucket",
    "Upload the bundle",
    "Update the environment",
    "Make sure that the environment has its requirements",
    "Sync the DAGs",
]
"""The steps in the one order that works: what the later ones need, the earlier ones make."""

# Its loader remembers what it has read.
SESSION = boto3.Session(region_name="us-east-1")


@pytest.fixture
def clone(tmp_path: Path) -> Commands:
    """A repository with one commit and a clean tree."""
    identity = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    commands = Commands(tmp_path, {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull})
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "--quiet"], ["add", "file"], ["commit", "--quiet", "-m", "first"]):
        commands.run(["git", *arguments])
    return commands


def target(environment: str) -> Target:
    return read_target(PLACES.sam_config, environment)


def options(*, dry_run: bool = False, approved: bool = False) -> argparse.Namespace:
    return argparse.Namespace(dry_run=dry_run, approved=approved)


def test_clean_tree_is_its_commit(clone: Commands) -> None:
    commit = clone.read(["git", "rev-parse", "HEAD"])
    assert describe_tree(clone, must_be_clean=True) == commit[:12]


def test_changed_tree_is_named_as_such_and_refused_where_it_must_be_clean(clone: Commands) -> None:
    (clone.root / "file").write_text("two")
    (clone.root / "new file").write_text("")
    assert describe_tree(clone, must_be_clean=False).endswith(" + local changes")
    with pytest.raises(ReleaseError, match="prod is deployed from a commit only") as refusal:
        describe_tree(clone, must_be_clean=True)
    assert ' M file\n     ?? "new file"'.replace("     ??", "    ??") in str(refusal.value)


def test_folder_without_a_repository_is_reported(tmp_path: Path) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    with pytest.raises(ReleaseError, match=r"git rev-parse.*not a git repository"):
        describe_tree(Commands(tmp_path, environment), must_be_clean=False)


def test_command_that_fails_or_is_missing_says_what_to_do(tmp_path: Path) -> None:
    commands = Commands(tmp_path, os.environ)
    with pytest.raises(ReleaseError, match=r"`false` failed \(exit code 1\); its output is above"):
        commands.run(["false"])
    with pytest.raises(ReleaseError, match=r"cannot be run .* run `make setup`"):
        commands.run([str(tmp_path / "sam")])


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_dry_run_prints_every_step_with_its_targets_and_calls_nobody(
    clone: Commands, capsys: pytest.CaptureFixture[str], environment: str
) -> None:
    # Sockets are closed here, there are no credentials, and no program of these names.
    places = replace(PLACES, sam=Path("/nowhere/sam"))
    assert deploy(target(environment), places, clone, SESSION, options(dry_run=True)) == []
    printed = capsys.readouterr().out
    titles = [line.partition(" ")[2] for line in printed.splitlines() if line[0].isdigit()]
    assert len(titles) == len(TITLES)
    assert all(title.startswith(start) for title, start in zip(titles, TITLES, strict=True)), titles
    for text in (
        f"-m infra.release.preflight --environment {environment}",
        "-m infra.release.bundle",
        "/nowhere/sam build --template-file",
        f"--config-env {environment}",
        f"s3://pipelines-mwaa-{environment}-{UNKNOWN_ACCOUNT}/plugins.zip",
        f"stack pipelines-mwaa-{environment}",
        "PluginsS3ObjectVersion=<version of plugins.zip>",
        f"airflow-pipelines-{environment}-Scheduler",
        "Dry run: nothing was changed.",
    ):
        assert text in printed


@dataclass
class Denying:
    """A CloudFormation that refuses to show any stack."""

    code: str

    def describe_stacks(self, **request: str) -> dict[str, object]:
        raise ClientError({"Error": {"Code": self.code, "Message": request["StackName"]}}, "DescribeStacks")


def test_whoever_may_not_look_for_other_environments_deploys_all_the_same() -> None:
    target = replace(read_target(PLACES.sam_config, "dev"), others=("pipelines-staging",))
    seen = [
        Stacks(client, print, lambda _: True, lambda: 0.0, lambda _: None)
        for client in (Denying("AccessDenied"), Denying("Throttling"))
    ]
    check_alone(seen[0], target)
    with pytest.raises(ClientError, match="Throttling"):
        check_alone(seen[1], target)


def test_prod_without_a_person_is_refused(clone: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(ReleaseError, match="prod wants a person who agrees"):
            deploy(target("prod"), PLACES, clone, SESSION, options())


def test_prod_with_local_changes_is_refused_before_anything_else(
    clone: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone.root / "file").write_text("two")
    with pytest.raises(ReleaseError, match="commit, or set aside"):
        deploy(target("prod"), PLACES, clone, SESSION, options(approved=True))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("environment", ["production", "local", ""])
def test_unknown_environment_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str], environment: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([environment])
    assert exit_.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_makefile_passes_its_variables_on() -> None:
    make = ["make", "--no-print-directory", "-n", "deploy", "ENV=dev", "DRY_RUN=1", "APPROVED=1"]
    printed = subprocess.run(make, cwd=PLACES.airflow_template.parents[1], capture_output=True, text=True, check=True)
    assert 'infra.release.deploy "dev" --dry-run --approved' in printed.stdout


SAM = """#!/bin/sh
echo "$@" >> sam.calls
"""
LOOK, CHANGE = "--no-execute-changeset", "--no-confirm-changeset"


@dataclass
class Person:
    """Answers as told, and remembers what the question was."""

    agrees: bool
    asked: list[str] = field(default_factory=list)

    def answer(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees


def deployment(folder: Path, environment: str, confirm: Callable[[str], bool] | None) -> Deployment:
    """A deployment by a `sam` that writes down how it is called, to stacks that are there."""
    sam = folder / "sam"
    sam.write_text(SAM)
    sam.chmod(0o755)
    commands = Commands(folder, command_environment({}))
    made = assembled(environment, commands, approved=False)
    client = FakeCloudFormation("UPDATE_COMPLETE")
    stacks = Stacks(client, print, lambda _: True, lambda: 0.0, lambda _: None)
    return replace(made, places=replace(PLACES, sam=sam), stacks=stacks, confirm=confirm)


def assembled(environment: str, commands: Commands, *, approved: bool) -> Deployment:
    target = read_target(PLACES.sam_config, environment)
    return assemble(target, "1" * 12, PLACES, commands, SESSION, approved=approved, sleep=lambda _: None)


def step(made: Deployment, title: str) -> Step:
    (found,) = [item for item in made.steps() if item.title.startswith(title)]
    return found


def calls(folder: Path) -> list[str]:
    return (folder / "sam.calls").read_text().splitlines()


def test_changes_of_the_application_are_shown_and_made_once_the_person_agrees(tmp_path: Path) -> None:
    person = Person(agrees=True)
    step(deployment(tmp_path, "prod", person.answer), "Deploy the application").run()
    look, change = calls(tmp_path)
    assert LOOK in look.split()
    assert CHANGE in change.split()
    assert LOOK not in change.split()
    assert person.asked == ["Change the stack pipelines-prod as shown?"]


def test_person_who_does_not_agree_ends_it_with_the_application_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="nobody agreed"):
        step(deployment(tmp_path, "prod", Person(agrees=False).answer), "Deploy the application").run()
    (look,) = calls(tmp_path)
    assert LOOK in look.split()


def test_person_who_does_not_agree_ends_it_before_anything_is_uploaded(tmp_path: Path) -> None:
    # There are no credentials and sockets are closed: an upload would fail otherwise.
    with pytest.raises(ReleaseError, match="nobody agreed"):
        step(deployment(tmp_path, "prod", Person(agrees=False).answer), "Upload the bundle").run()


def test_sam_asks_nobody_and_changes_at_once_where_nobody_has_to_agree(tmp_path: Path) -> None:
    step(deployment(tmp_path, "dev", None), "Deploy the application").run()
    (change,) = calls(tmp_path)
    assert CHANGE in change.split()
    assert LOOK not in change.split()


@pytest.mark.parametrize(("environment", "approved"), [("dev", False), ("staging", False), ("prod", True)])
def test_nobody_is_asked_but_before_production_changes_without_approval(environment: str, approved: bool) -> None:
    made = assembled(environment, Commands(Path(), {}), approved=approved)
    assert made.confirm is None
    assert made.stacks.confirm("Really?")


def test_deployment_that_nobody_reads_any_more_says_that_it_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert main(["dev", "--dry-run"]) == 1
    assert capsys.readouterr().err.startswith("stopped;")


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("of course\n", False), ("", False)],
)
def test_only_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    made = assembled("prod", Commands(Path(), {}), approved=False)
    for ask in (made.confirm, made.stacks.confirm):
        assert ask
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert ask("Really?") is agreed
