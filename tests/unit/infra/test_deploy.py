from __future__ import annotations

import argparse
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from infra.release.bundle import ReleaseError
from infra.release.deploy import PLACES, UNKNOWN_ACCOUNT, deploy, main
from infra.release.deployment.steps import Commands, describe_tree
from infra.release.deployment.target import Target, read_target

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


def test_folder_without_a_repository_is_told(tmp_path: Path) -> None:
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
    session = boto3.Session(region_name="us-east-1")
    assert deploy(target(environment), places, clone, session, options(dry_run=True)) == []
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


def test_prod_without_a_person_is_refused(clone: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(ReleaseError, match="prod wants a person who agrees"):
            deploy(target("prod"), PLACES, clone, boto3.Session(region_name="us-east-1"), options())


def test_prod_with_local_changes_is_refused_before_anything_else(
    clone: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone.root / "file").write_text("two")
    with pytest.raises(ReleaseError, match="commit, or set aside"):
        deploy(target("prod"), PLACES, clone, boto3.Session(region_name="us-east-1"), options(approved=True))
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
