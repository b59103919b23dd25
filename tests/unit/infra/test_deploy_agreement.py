"""A person agrees before production changes, and a no, or nobody, ends the deployment with all left as it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import boto3
import pytest

from infra.release.bundle import ReleaseError
from infra.release.deploy import PLACES, assemble, command_environment
from infra.release.deployment.stacks import Stacks
from infra.release.deployment.steps import Commands, Deployment, Step
from infra.release.deployment.target import read_target
from tests.worlds.cloudformation import FakeCloudFormation

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
    session = boto3.Session(region_name="us-east-1")
    commands = Commands(folder, command_environment({}))
    made = assembled(environment, commands, session, approved=False)
    client = cast("Any", FakeCloudFormation("UPDATE_COMPLETE"))
    stacks = Stacks(client, print, lambda _: True, lambda: 0.0, lambda _: None)
    return replace(made, places=replace(PLACES, sam=sam), stacks=stacks, confirm=confirm)


def assembled(environment: str, commands: Commands, session: boto3.Session, *, approved: bool) -> Deployment:
    target = read_target(PLACES.sam_config, environment)
    return assemble(target, "1" * 12, PLACES, commands, session, approved=approved, sleep=lambda _: None)


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
    session = boto3.Session(region_name="us-east-1")
    made = assembled(environment, Commands(Path(), {}), session, approved=approved)
    assert made.confirm is None
    assert made.stacks.confirm("Really?")


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("of course\n", False), ("", False)],
)
def test_only_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    made = assembled("prod", Commands(Path(), {}), boto3.Session(region_name="us-east-1"), approved=False)
    for ask in (made.confirm, made.stacks.confirm):
        assert ask
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert ask("Really?") is agreed
