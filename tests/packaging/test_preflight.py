"""The preflight: this project passes; one with anything broken fails at that, and is told what to change."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from include.auction import deadlines
from include.call_details import rate_limit
from infra.release.bundle import ReleaseError
from infra.release.checks.budgets import TABLE, amount, budgets
from infra.release.preflight import main, report, run_checks
from infra.release.project import (
    ENVIRONMENTS,
    FOLDERS,
    SAM,
    TEMPLATE,
    Amount,
    Project,
    airflow_options,
    parameters_of,
    read_projects,
    text_files,
)
from tests.packaging import broken_limits, broken_projects
from tests.packaging.breaking import Case

CASES = (*broken_projects.CASES, *broken_limits.CASES)
DOUBTS = "preflight/facts"


@pytest.fixture(scope="module")
def projects(root: Path) -> list[Project]:
    """This project as each environment sees it: all have the same options, so it is loaded once."""
    return read_projects(root, ENVIRONMENTS)


SHIPPED = """
[{0}.deploy.parameters]
parameter_overrides = ["Environment={0}"]
[{0}.mwaa.parameters]
parameter_overrides = ["EnvironmentClass=mw1.small", "MaxWorkers=7"]
"""
"""Parameters as they are before anybody gives his own, which no test is to mind."""


@pytest.fixture(scope="module")
def project(projects: list[Project]) -> Project:
    """The same, as dev sees it, with the parameters that it is shipped with."""
    return replace(projects[0], texts={**projects[0].texts, SAM: SHIPPED.format("dev")})


def test_this_project_passes(projects: list[Project], project: Project) -> None:
    wrong = [finding for each in (*projects, project) for finding in run_checks(each) if not finding.ok]
    assert wrong == []


def test_environment_is_loaded_with_the_zone_that_the_application_hands_on(project: Project) -> None:
    zone = SHIPPED.format("prod").replace('"Environment=prod"', '"Environment=prod", "BusinessTimezone=Asia/Tokyo"')
    options = airflow_options({**project.texts, SAM: zone}, "prod")
    assert options["pipelines.business_timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("value", "read"), [("a", "a"), (r"\"\"", ""), (r"\"a b/\"", "a b/"), ("'a b/'", "a b/"), ("x=y", "x=y")]
)
def test_value_of_the_application_is_what_sam_reads(project: Project, value: str, read: str) -> None:
    given = SHIPPED.format("dev").replace('"Environment=dev"', f'"Environment=dev", "JwtIssuer={value}"')
    assert parameters_of({**project.texts, SAM: given}, TEMPLATE, "dev")["JwtIssuer"] == read


@pytest.mark.parametrize("value", ["", "https://a.example, https://b.example", "a b/"])
def test_value_of_which_sam_would_leave_a_part_out_is_refused(project: Project, value: str) -> None:
    given = SHIPPED.format("dev").replace('"Environment=dev"', f'"Environment=dev", "JwtIssuer={value}"')
    with pytest.raises(ReleaseError, match=r"\[dev\.deploy\.parameters\]: SAM takes nothing"):
        parameters_of({**project.texts, SAM: given}, TEMPLATE, "dev")


def test_parameters_in_the_form_that_only_sam_reads_are_refused(project: Project) -> None:
    text = SHIPPED.format("dev").replace('["Environment=dev"]', '"Environment=dev"')
    with pytest.raises(ReleaseError, match=r"\[dev\.deploy\.parameters\]: parameter_overrides must be a list"):
        airflow_options({**project.texts, SAM: text}, "dev")


def test_numbers_are_those_of_the_code(project: Project) -> None:
    assert project.constant("include.auction.deadlines.RUN").value == deadlines.RUN
    assert project.constant("include.call_details.rate_limit.LEASE_SECONDS").value == rate_limit.LEASE_SECONDS
    assert project.dag("energy_auction", "dagrun_timeout").value == deadlines.RUN
    assert project.dag("energy_auction", "interval").value == 300
    assert project.dag("dex_trigger_archive", "interval").value == 23 * 3600, "the day the clocks go forward"
    assert project.setting("delivery_tasks").where.startswith("setting delivery_tasks (SettingsSecret")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_broken_project_fails_at_what_is_broken(project: Project, case: Case) -> None:
    wrong = [finding for finding in run_checks(case.broken(project)) if not finding.ok]
    assert {finding.check for finding in wrong} == {case.check}
    told = "\n".join(f"{finding.where}: {finding.message} -> {finding.change}" for finding in wrong)
    assert [words for words in case.says if words not in told] == [], told
    assert all(finding.change for finding in wrong)


def test_every_check_has_a_project_that_fails_it(project: Project) -> None:
    assert {case.check for case in CASES} - {DOUBTS} == {finding.check for finding in run_checks(project)}


def test_every_budget_refuses_what_is_too_much_and_says_where_and_why(project: Project) -> None:
    rows = list(budgets(project))
    assert len(rows) > len(TABLE)
    for row in rows:
        (held,) = row(project)
        assert held.ok, held
        limit = amount(project, row.greater)
        too_much = Amount(limit.value + (row.relation == "<="), "too much", "here")
        (wrong,) = replace(row, smaller=too_much)(project)
        assert not wrong.ok, row
        assert (wrong.check, wrong.where) == (row.check, "here")
        assert wrong.message.endswith(f": otherwise {row.why}")
        assert limit.where in wrong.change


def test_report_names_file_fault_and_remedy(project: Project) -> None:
    case = next(case for case in CASES if case.check == "plugins/ignored")
    told = report(run_checks(case.broken(project)), verbose=False).splitlines()
    at = told.index("WRONG plugins/ignored")
    assert told[at + 1].startswith("      plugins/.airflowignore: does not cover include/")
    assert told[at + 2] == "      -> add a line include/"
    assert told[-1].startswith("1 of ")


@pytest.mark.parametrize(
    ("given", "environments"), [([], [*ENVIRONMENTS]), (["--environment", "prod"], ["prod"])], ids=["all", "prod"]
)
def test_command_ends_well_for_the_environments_that_it_is_told(
    projects: list[Project], capsys: pytest.CaptureFixture[str], given: list[str], environments: list[str]
) -> None:
    def read(_: Path, asked: Sequence[str]) -> list[Project]:
        return [project for project in projects if project.environment in asked]

    assert main(given, read=read) == 0
    told = capsys.readouterr().out
    assert "WRONG" not in told
    assert told.count("ok    requirements/pins") == len(environments)
    assert [line for line in told.splitlines() if line.startswith("==")] == [f"== {name}" for name in environments]


@pytest.mark.parametrize(("given", "option"), [("", ""), ("ENV=prod", " --environment prod")])
def test_makefile_says_which_environment_only_if_it_was_told(root: Path, given: str, option: str) -> None:
    make = ["make", "--no-print-directory", "-n", "preflight", *([given] if given else [])]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(make, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert f"infra.release.preflight{option}" in [
        line.rstrip().partition("-m ")[2] for line in done.stdout.splitlines()
    ]


def test_command_fails_for_an_environment_whose_files_and_parameters_are_broken(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = _copy(root, tmp_path / "broken")
    (broken / SAM).write_text(SHIPPED.format("prod"))
    _edit(broken / SAM, '"MaxWorkers=7"', '"MaxWorkers=2", "AuctionSchedule=*/10 * * * *"')
    _edit(broken / "dags/call_details_replay.py", "from datetime import", "import not_on_mwaa\nfrom datetime import")
    _edit(broken / "plugins/.airflowignore", "airflow_ext/\n", "")
    _edit(broken / "include/call_details/rate_limit.py", "LEASE_SECONDS = 90.0", "LEASE_SECONDS = 60.0")
    _edit(broken / "dags/event_delivery.py", "minutes=4", "minutes=2")
    _edit(
        broken / "dags/call_details_watch.py",
        "from airflow_ext",
        "import time\nwhile time.process_time() < 2.1:\n    pass\nfrom airflow_ext",
    )
    loaded: list[Project] = []

    def read(path: Path, environments: Sequence[str]) -> list[Project]:
        loaded.extend(read_projects(path, environments))
        return loaded

    assert main(["--project", str(broken), "--environment", "prod"], read=read) == 1
    (prod,) = loaded
    assert prod.dag("energy_auction", "interval").value == 600, "loaded with the options of its environment"
    told = capsys.readouterr().out
    wrong = {line.removeprefix("WRONG ") for line in told.splitlines() if line.startswith("WRONG")}
    assert wrong == {
        "concurrency/slots",
        "imports/dags",
        "imports/packages",
        "leases/delivery",
        "leases/permits",
        "page/imports",
        "parsing/time",
        "plugins/ignored",
        "plugins/scan",
    }, told
    assert "No module named 'not_on_mwaa'" in told
    assert "under the bare name" in told


def test_command_says_where_it_looked_and_found_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert f"{tmp_path}/infra/template.yaml cannot be read" in told.err
    assert told.out == ""


def _copy(root: Path, target: Path) -> Path:
    for folder in FOLDERS:
        shutil.copytree(root / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in text_files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target / name)
    return target


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r} to break"
    path.write_text(text.replace(old, new, 1))
