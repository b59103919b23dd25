import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ops.__main__ import main
from ops.environment import Environment
from ops.report import OpsError


def never(name: str) -> Environment:
    raise AssertionError(f"{name} was opened")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "COMMAND"),
        ("day 2026-02-30", "write it as 2026-03-02"),
        ("failed no_such_dag", "invalid choice"),
        ("runs --limit 0", "not a number from 1"),
        ("runs --limit 101", "Airflow gives at once"),
        ("day 2026-03-02 --client me", "invalid int"),
        ("airflow GET dags", "must begin with /"),
        ('start energy_auction {"a":NaN}', "NaN is no number of JSON"),
    ],
)
def test_wrong_command_line_is_refused_before_anything_is_asked(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split(), open_environment=never)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"], open_environment=never)
    assert "python -m ops dead-letters replay --dry-run" in capsys.readouterr().out


def test_error_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def closed(name: str) -> Environment:
        raise OpsError(f"{name} is closed")

    assert main(["--environment", "dev", "files"], open_environment=closed) == 1
    assert capsys.readouterr().err == "error: dev is closed\n"


def test_days_in_the_wrong_order_prove_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    environment: Any = SimpleNamespace(http=nullcontext())
    line = "evidence verify --from 2026-03-05 --to 2026-03-01"
    assert main(line.split(), open_environment=lambda name: environment) == 1
    assert capsys.readouterr().err == "error: 2026-03-01 is before 2026-03-05\n"


def test_terminal_of_another_encoding_shows_what_it_lacks_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: Any = SimpleNamespace(http=nullcontext(), log=lambda group, hours: f"{group} of Łódź, {hours} h")
    monkeypatch.setattr(sys, "stdout", terminal := io.TextIOWrapper(printed := io.BytesIO(), encoding="latin-1"))
    assert main(["log", "/aws", "--hours", "12"], open_environment=lambda name: environment) == 0
    terminal.flush()
    assert printed.getvalue() == b"/aws of \\u0141\xf3d\\u017a, 12 h\n"


def test_environment_is_the_shells_or_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note(name: str) -> Environment:
        opened.append(name)
        raise OpsError("enough")

    monkeypatch.delenv("ENVIRONMENT", raising=False)
    main(["files"], open_environment=note)
    monkeypatch.setenv("ENVIRONMENT", "staging")
    main(["files"], open_environment=note)
    main(["--environment", "prod", "files"], open_environment=note)
    assert opened == ["local", "staging", "prod"]


class Terminal(io.StringIO):
    """A person who types this; without a line's end it is followed by Ctrl-D, and None is Ctrl-C."""

    def __init__(self, typed: str | None) -> None:
        super().__init__(typed)
        self.typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1) -> str:
        if self.typed is None:
            raise KeyboardInterrupt
        return super().readline(size)


RUN = {"dag_id": "energy_auction", "dag_run_id": "shown", "start_date": "2026-03-08T06:00:00Z"}
Task = tuple[str, int, str]
"""Id, map index and state; "failed before" is what failed before the run was cleared."""


class Airflow:
    """The API of a local stack, of which we may not see XComs; ``state`` is that of each run."""

    state = "failed"

    def __init__(self, *failed_runs: str, tasks: Iterable[Task] = (("summarize", -1, "failed"),)) -> None:
        self.failed_runs = [*failed_runs]
        self.tasks = [
            {
                **{"task_id": name, "map_index": index, "state": state.removesuffix(" before"), **RUN},
                "end_date": f"2026-03-08T0{5 if state.endswith('before') else 6}:02:00Z",
            }
            for name, index, state in tasks
        ]
        self.asked: list[tuple[str, Any]] = []
        stack = dict.fromkeys(("airflow_url", "airflow_token_url"), "http://127.0.0.1:8080")
        self.environment = Environment("local", None, None, stack, httpx.Client(transport=httpx.MockTransport(self)))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.content:
            self.asked.append((request.url.path.removeprefix("/api/v2"), json.loads(request.content)))
        days = [{"logical_date": f"2026-03-0{day}T00:00:00Z"} for day in (1, 2)]
        if "/xcomEntries/" in request.url.path:
            return httpx.Response(403, json={"detail": "Forbidden"})
        answer = {"access_token": "t", "backfills": days, "task_instances": self.tasks, "state": self.state}
        answer["is_paused"] = False
        if request.method == "GET":
            prefix = request.url.params.get("run_id_prefix_pattern", "")
            found = [{**RUN, "dag_run_id": run, "state": self.state} for run in ("shown", "shown too")]
            answer["dag_runs"] = [run for run in found if run["dag_run_id"].startswith(prefix)]
        if request.url.path.endswith("/taskInstances/list"):
            body = json.loads(request.content)
            listed = [task for task in self.tasks if task["state"] in body["state"]]
            answer["task_instances"] = listed[body.get("page_offset", 0) :][: body["page_limit"]]
        if request.url.path.endswith("/dagRuns/list"):
            answer["dag_runs"] = [{"dag_run_id": self.failed_runs.pop()}]
        return httpx.Response(200, json=answer)


@pytest.mark.parametrize(
    ("typed", "code", "end"),
    [
        ("n\n", 1, "error: nothing was changed\n"),
        ("", 1, "\nerror: nothing was changed\n"),
        (None, 130, "\ninterrupted\n"),
    ],
)
def test_person_sees_the_plan_before_agreeing(
    typed: str | None, code: int, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow = Airflow()
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert main(["backfill", "2026-03-01", "2026-03-02"], open_environment=lambda name: airflow.environment) == code
    said = capsys.readouterr().err
    assert "2026-03-01" in said
    assert "2026-03-02" in said
    assert said.endswith(end)
    assert [path for path, _ in airflow.asked] == ["/backfills/dry_run"]


@pytest.mark.parametrize(
    ("options", "days", "conf"),
    [([], "failed", {}), (["--client", "2", "--client", "7", "--again"], "completed", {"client_ids": [2, 7]})],
)
def test_days_are_archived_as_they_were_shown(
    options: list[str], days: str, conf: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow = Airflow()
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    asked = ["backfill", "2026-03-01", "2026-03-02", *options]
    assert main(asked, open_environment=lambda name: airflow.environment) == 0
    body = {
        "dag_id": "dex_trigger_archive",
        "from_date": "2026-03-01T00:00:00Z",
        "to_date": "2026-03-02T00:00:00Z",
        "reprocess_behavior": days,
        "max_active_runs": 1,
        "run_backwards": False,
        "dag_run_conf": conf,
    }
    assert airflow.asked == [("/backfills/dry_run", body), ("/backfills", body)]


def test_run_that_was_shown_is_cleared_though_another_failed_before_somebody_agreed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow = Airflow("another", "shown")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert main(["clear", "energy_auction"], open_environment=lambda name: airflow.environment) == 0
    clears = [body for path, body in airflow.asked if path.endswith("/clearTaskInstances")]
    assert [(body["dag_run_id"], body["dry_run"]) for body in clears] == [("shown", True), ("shown", False)]
    assert "Clear 1 task of run shown of energy_auction in local?" in capsys.readouterr().out


REJECTED = ("process_order", 1, "failed")


@pytest.mark.parametrize(
    ("state", "tasks", "cleared"),
    [
        ("failed", [("list_clients", -1, "failed"), ("archive_client", -1, "upstream_failed")], 2),
        ("failed", [("wait_for_results", -1, "skipped"), ("summarize", -1, "failed")], ["summarize"]),
        ("failed", [REJECTED, ("process_order", 2, "skipped"), ("summarize", -1, "skipped")], 3),
        ("failed", [("process_order", 1, "skipped"), ("summarize", -1, "failed before")], 2),
        ("failed", [("archive_client", index, "skipped") for index in range(250)], 250),
        ("failed", [("archive_client", index, "failed") for index in range(100)], 100),
        ("success", [REJECTED, ("summarize", -1, "success")], [["process_order", 1]]),
        ("success", [("wait_for_results", -1, "skipped"), ("summarize", -1, "skipped")], None),
    ],
)
def test_what_failed_or_was_left_when_its_runs_time_was_up_is_cleared_with_what_follows(
    state: str, tasks: list[Task], cleared: Any
) -> None:
    airflow = Airflow(tasks=tasks)
    airflow.state = state
    assert main(["clear", "energy_auction", "shown", "--yes"], open_environment=lambda name: airflow.environment) == 0
    if isinstance(cleared, int):
        cleared = [[name, index] if index >= 0 else name for name, index, _ in tasks]
        assert len(cleared) == len(tasks)
    clears = [body for path, body in airflow.asked if path.endswith("/clearTaskInstances")]
    assert [(body["task_ids"], body["include_downstream"], body["only_failed"]) for body in clears] == (
        [(cleared, True, False)] * 2 if cleared else []
    )


@pytest.mark.parametrize(("run", "code"), [("shown", 0), ("show", 1)])
def test_run_without_failed_tasks_says_its_state_and_one_that_is_not_there_says_so(
    run: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow = Airflow(tasks=[])
    airflow.state = "running"
    assert main(["clear", "energy_auction", run], open_environment=lambda name: airflow.environment) == code
    said = "no task of the run has failed, and it is running." if code == 0 else "has no run show: 'ops runs"
    assert said in "".join(capsys.readouterr())


def test_tasks_that_failed_are_listed_though_their_reasons_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    airflow = Airflow()
    assert main(["--json", "failed"], open_environment=lambda name: airflow.environment) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["task"], row["reason"]) == ("summarize", "the reason cannot be read: Airflow answered 403: Forbidden")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_reader_that_has_enough_gets_no_traceback(options: list[str], tmp_path: Path, root: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evidence.zip", "w") as archive:
        archive.writestr("answers/1.json", "{}")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ops", *options, "evidence", "export", "--verify", str(archive.filename)]
    done = subprocess.run(command, cwd=root, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
