from __future__ import annotations

import io
import sys
from contextlib import nullcontext
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
        ("day 2026-03-02 --client me", "invalid int"),
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


def test_terminal_of_another_encoding_shows_what_it_lacks_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: Any = SimpleNamespace(http=nullcontext(), log=lambda group: f"{group} of Łódź")
    monkeypatch.setattr(sys, "stdout", terminal := io.TextIOWrapper(printed := io.BytesIO(), encoding="latin-1"))
    assert main(["log", "/aws"], open_environment=lambda name: environment) == 0
    terminal.flush()
    assert printed.getvalue() == b"/aws of \\u0141\xf3d\\u017a\n"


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
    """A person who types this."""

    def isatty(self) -> bool:
        return True


def test_person_sees_the_plan_before_agreeing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def airflow(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        days = [{"logical_date": f"2026-03-0{day}T00:00:00Z"} for day in (1, 2)]
        return httpx.Response(200, json={"access_token": "t", "backfills": days})

    stack = dict.fromkeys(("airflow_url", "airflow_token_url"), "http://127.0.0.1:8080")
    environment = Environment("local", None, None, stack, httpx.Client(transport=httpx.MockTransport(airflow)))
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert main(["backfill", "2026-03-01", "2026-03-02"], open_environment=lambda name: environment) == 1
    said = capsys.readouterr().err
    assert "2026-03-01" in said
    assert "2026-03-02" in said
    assert said.endswith("error: nothing was changed\n")
    assert asked[1:] == ["/api/v2/backfills/dry_run"]
