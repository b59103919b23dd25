"""GitHub Actions: every push is tested, main is deployed to dev, and a channel is told, whatever a commit is called."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
WEBHOOK = "https://hooks.example.com/services/T0/B0/secret"


@cache
def workflow(name: str) -> dict[str, Any]:
    # YAML reads the key `on` as a truth value.
    document = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return {("on" if key is True else key): value for key, value in document.items()}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]


def test_schema_of_github_takes_the_workflows() -> None:
    check = ROOT / ".venv" / "bin" / "check-jsonschema"
    paths = [str(FOLDER / name) for name in NAMES]
    command = [str(check), "--builtin-schema", "vendor.github-workflows", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_push_and_pull_request_is_tested_once() -> None:
    assert NAMES == ["chaos.yml", "deploy.yml", "test.yml"]
    test, deploy = workflow("test.yml"), workflow("deploy.yml")
    assert test["on"]["push"] == {"branches-ignore": ["main", "master"]}
    assert {"pull_request", "workflow_call"} <= set(test["on"])
    assert deploy["on"] == {"push": {"branches": ["main", "master"]}}
    assert deploy["jobs"]["test"] == {"uses": "./.github/workflows/test.yml"}
    assert deploy["jobs"]["deploy"]["needs"] == "test"


def test_tests_are_those_of_every_other_place() -> None:
    assert [step["run"] for step in workflow("test.yml")["jobs"]["test"]["steps"] if "run" in step] == [
        ".ci/run",
        "make preflight",
        "make bundle",
        "make prove",
    ]
    assert "make deploy ENV=dev" in [step.get("run") for step in steps("deploy.yml")]


def test_every_locked_list_is_audited_and_a_finding_stops_no_deployment() -> None:
    job = workflow("test.yml")["jobs"]["audit"]
    assert job["continue-on-error"] is True
    command = job["steps"][-1]["run"]
    assert {"--no-deps", "--disable-pip"} <= set(command.split()), "it would resolve and install what it audits"
    listed = {path for word in command.split() for path in ROOT.glob(word.rstrip(";")) if path.is_file()}
    locked = {*ROOT.glob("requirements/*.txt"), *ROOT.glob("lambdas/*/requirements.txt")}
    # The constraints are those of Airflow for all that anybody may install; dev.txt holds local.txt.
    assert locked - listed == {ROOT / "requirements" / "constraints.txt", ROOT / "requirements" / "local.txt"}
    pinned = {path.name: set(path.read_text(encoding="utf-8").split()) for path in locked}
    assert pinned["local.txt"] <= pinned["dev.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_actions_of_others_are_pinned_by_commit_and_say_which_version_that_is(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text)) == len(used)


@pytest.mark.parametrize("name", NAMES)
def test_jobs_end_by_themselves_and_have_no_right_that_they_do_not_need(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    assert workflow(name)["concurrency"]["group"]
    for job in workflow(name)["jobs"].values():
        if "uses" not in job:
            assert 0 < job["timeout-minutes"] <= 150
            assert set(job.get("permissions", {}).items()) <= {("contents", "read"), ("id-token", "write")}
    writers = [key for key, job in workflow(name)["jobs"].items() if "id-token" in job.get("permissions", {})]
    assert writers == (["deploy"] if name == "deploy.yml" else [])


def test_groups_of_the_two_differ_so_that_neither_waits_for_itself() -> None:
    groups = [workflow(name)["concurrency"]["group"] for name in NAMES]
    assert len(set(groups)) == len(groups)
    assert workflow("deploy.yml")["concurrency"]["cancel-in-progress"] is False


def test_nothing_is_deployed_from_a_repository_that_names_no_role() -> None:
    job = workflow("deploy.yml")["jobs"]["deploy"]
    assert job["if"] == "vars.AWS_DEPLOY_ROLE_ARN != ''"
    # A condition without a function of status holds only where the tests passed.
    assert job["needs"] == "test"


def test_deployment_uses_no_stored_key() -> None:
    (sign_in,) = [step for step in steps("deploy.yml") if "configure-aws-credentials" in step.get("uses", "")]
    assert sign_in["with"]["role-to-assume"] == "${{ vars.AWS_DEPLOY_ROLE_ARN }}"
    assert not any("access-key" in key for key in sign_in["with"])
    secrets = set(re.findall(r"secrets\.(\w+)", (FOLDER / "deploy.yml").read_text(encoding="utf-8")))
    assert secrets == {"SLACK_WEBHOOK_URL"}


@pytest.mark.parametrize("name", NAMES)
def test_no_command_is_built_from_what_others_write(name: str) -> None:
    for step in steps(name):
        assert "${{" not in step.get("run", ""), "values go in by variables"


def tell(tmp_path: Path, **variables: str) -> tuple[dict[str, str], str, str]:
    """Run the step that tells, with a curl that writes down how it was called.

    Returns:
        The message, the arguments of curl, and what it read.
    """
    (step,) = workflow("deploy.yml")["jobs"]["tell"]["steps"]
    programs = tmp_path / "bin"
    programs.mkdir()
    curl = programs / "curl"
    curl.write_text('#!/bin/sh\necho "$@" > arguments\ncat > input\n')
    curl.chmod(0o755)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_SHA": "0123456789abcdef",
        "SLACK_WEBHOOK_URL": WEBHOOK,
        "TESTED": "success",
        "DEPLOYED": "success",
        "MESSAGE": "A change",
        "RUN_URL": "https://github.example.com/acme/pipelines/actions/runs/1",
        **variables,
    }
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert WEBHOOK not in done.stdout + done.stderr
    message = json.loads((tmp_path / "payload.json").read_text(encoding="utf-8"))
    return message, (tmp_path / "arguments").read_text(), (tmp_path / "input").read_text()


@pytest.mark.parametrize(
    ("tested", "deployed", "headline"),
    [
        ("success", "success", ":white_check_mark: The pipelines were deployed to dev"),
        ("success", "failure", ":x: The deployment of the pipelines to dev failed (failure)"),
        (
            "success",
            "skipped",
            ":white_check_mark: The tests of the pipelines passed; nothing was deployed (no AWS_DEPLOY_ROLE_ARN)",
        ),
        ("failure", "skipped", ":x: The tests of the pipelines failed (failure); nothing was deployed"),
    ],
)
def test_channel_is_told_of_success_and_failure(tmp_path: Path, tested: str, deployed: str, headline: str) -> None:
    message, arguments, read = tell(tmp_path, TESTED=tested, DEPLOYED=deployed)
    assert message["text"].splitlines() == [
        headline,
        "0123456789ab A change",
        "<https://github.example.com/acme/pipelines/actions/runs/1|Log>",
    ]
    assert read == f'url = "{WEBHOOK}"\n'
    assert WEBHOOK not in arguments, "the list of processes would show it"
    assert "--fail" in arguments


def test_commit_message_can_end_neither_the_command_nor_the_text(tmp_path: Path) -> None:
    message, _, _ = tell(tmp_path, MESSAGE='$(touch owned) `touch owned` "}, <!channel> & more\nsecond line')
    assert message == {
        "text": ":white_check_mark: The pipelines were deployed to dev\n"
        '0123456789ab $(touch owned) `touch owned` "}, &lt;!channel&gt; &amp; more\n'
        "<https://github.example.com/acme/pipelines/actions/runs/1|Log>"
    }
    assert not (tmp_path / "owned").exists()


def test_channel_is_told_whatever_became_of_the_others_unless_somebody_cancelled() -> None:
    job = workflow("deploy.yml")["jobs"]["tell"]
    assert job["needs"] == ["test", "deploy"]
    assert job["if"] == "${{ !cancelled() }}"


def test_commit_hooks_run_what_make_lint_runs_and_download_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "://" not in text
    (repository,) = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local"
    assert {(hook["language"], hook["pass_filenames"]) for hook in repository["hooks"]} == {("system", False)}
    linters = re.search(r"^lint: ([a-z -]+) ##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [hook["entry"] for hook in repository["hooks"]] == [f"make --silent {name}" for name in linters[1].split()]
    assert [hook["id"] for hook in repository["hooks"]] == linters[1].split()
