from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from local.demo.part import Part
from local.demo.run import run_demo
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
    stack = cast("Stack", SimpleNamespace(logs=str(tmp_path / "logs")))
    assert run_demo(stack, lanes) == code
    shown = capsys.readouterr().out
    assert said in shown
    assert "ok     kept" in shown, "a part that broke off stops no other"
    assert "an order [1]" in shown
    assert shown.index("What ran") > shown.index("an order [1]"), "the table is what the eye meets last"
    document = json.loads((tmp_path / "demo.json").read_text())
    assert (document["passed"], [part["name"] for part in document["parts"]]) == (code == 0, ["a", "b"])
