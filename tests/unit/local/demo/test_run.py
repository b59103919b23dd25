import json
import threading
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from local.demo.part import Part
from local.demo.run import BROWSERS, pictures, run_demo
from local.stack.description import Stack


def promise(**checks: bool) -> tuple[str, Any]:
    def run(stack: Stack, part: Part) -> None:
        part.checks |= checks
        part.exhibits["an order [1]"] = "its text"

    return "why", run


def break_off(stack: Stack, part: Part) -> None:
    part.checks["first"] = True
    raise KeyError("manifest")


@pytest.mark.parametrize(
    ("lanes", "code", "said"),
    [
        ([{"a": promise(kept=True)}, {"b": promise(kept=True)}], 0, "All that was promised is there."),
        ([{"a": promise(kept=True, missing=False), "b": promise(kept=True)}], 1, "NO     missing"),
        ([{"a": promise(), "b": promise(kept=True)}], 1, "Something promised is missing"),
        ([{"a": ("why", break_off)}, {"b": promise(kept=True)}], 1, "NO     it ended early: KeyError: 'manifest'"),
    ],
    ids=["all", "one missing", "nothing promised", "broken off"],
)
def test_demo_succeeds_only_if_every_promise_of_every_part_is_kept(
    lanes: list[dict[str, Any]], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = SimpleNamespace(logs=str(tmp_path / "logs"))
    assert run_demo(stack, lanes, take=lambda _, folder: [f"{folder.name}/days.png"]) == code
    shown = capsys.readouterr().out
    assert said in shown
    assert "ok     kept" in shown, "a part that broke off stops no other"
    assert "an order [1]" in shown
    assert "\n  pictures/days.png\n" in shown
    assert shown.index("What ran") > shown.index("an order [1]"), "the table is what the eye meets last"
    document = json.loads((tmp_path / "demo.json").read_text())
    assert (document["passed"], [part["name"] for part in document["parts"]]) == (code == 0, ["a", "b"])


def test_who_interrupts_waits_for_no_part(tmp_path: Path) -> None:
    goes_on, interrupted, waited = threading.Event(), threading.Event(), Queue[bool]()

    def interrupt(stack: Stack, part: Part) -> None:
        goes_on.wait()
        raise KeyboardInterrupt

    def wait(stack: Stack, part: Part) -> None:
        goes_on.set()
        waited.put(interrupted.wait(20))

    stack = SimpleNamespace(logs=str(tmp_path / "logs"))
    with pytest.raises(KeyboardInterrupt):
        run_demo(stack, [{"a": ("why", interrupt)}, {"b": ("why", wait)}])
    interrupted.set()
    assert waited.get()


def a_browser(folder: Path, script: str) -> None:
    browser = folder / BROWSERS[0]
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('for each; do case $each in --screenshot=*) echo > "${each#*=}";; esac; done', "days.png  (days)"),
        ("exit 3", "no picture of days: "),
        ("", "no picture of days: "),
    ],
)
def test_picture_is_named_or_it_is_said_why_there_is_none(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_browser(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = pictures("http://127.0.0.1:1", {"days": "/days"}, tmp_path / "pictures")
    assert said in line


def test_without_a_browser_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install chromium" in pictures("http://127.0.0.1:1", {"days": "/days"}, tmp_path)[0]
