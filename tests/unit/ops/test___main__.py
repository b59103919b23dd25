from __future__ import annotations

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
