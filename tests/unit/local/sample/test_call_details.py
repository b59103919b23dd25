"""Sample files of call details: of the size asked for, of both formats, and broken only where they were asked to be."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.sample.call_details import write_call_details

ROOT = Path(__file__).parents[4]


def records(path: Path) -> list[bytes]:
    """The lines that are not blank."""
    return [line for line in path.read_bytes().split(b"\n") if line.strip()]


def is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode(), parse_constant=int)
    except ValueError:
        return False
    return True


def test_json_files_have_an_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "calls.txt"
    write_call_details(path, records=12_345)
    calls = [json.loads(line) for line in records(path)]
    assert [call["id"] for call in calls] == list(range(1, 12_346))
    assert len({(call["from"], call["to"]) for call in calls}) == 12_345
    assert 80 * 12_345 < path.stat().st_size < 130 * 12_345


def test_text_files_are_not_json(tmp_path: Path) -> None:
    path = tmp_path / "calls.txt"
    write_call_details(path, records=1_000, form="text")
    lines = records(path)
    assert len(lines) == 1_000
    assert not any(is_json(line) for line in lines)
    assert all(line.endswith(b"\r") and line.count(b";") == 5 for line in lines)


@pytest.mark.parametrize(("share", "broken"), [(0.01, 10), (0.003, 3), (1.0, 1_000), (0.0, 0)])
def test_as_many_lines_are_broken_as_asked(tmp_path: Path, share: float, broken: int) -> None:
    path = tmp_path / "calls.txt"
    write_call_details(path, records=1_000, broken_share=share)
    lines = records(path)
    assert len(lines) == 1_000
    assert sum(not is_json(line) for line in lines) == broken
    content = path.read_bytes()
    if broken >= 3:
        assert b"\xff" in content
        assert b"NaN" in content
        assert b"\n\n" in content


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("calls.txt", "calls.txt.gz"):
        # A compressed file may hold a name: not even that tells them apart.
        one, other = tmp_path / "one" / name, tmp_path / "other" / f"again-{name}"
        for path in (one, other):
            write_call_details(path, records=500, broken_share=0.1)
        assert one.read_bytes() == other.read_bytes()
    assert gzip.decompress(one.read_bytes()) == one.with_suffix("").read_bytes()


def test_the_command_writes_what_was_asked_for_and_refuses_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "calls.txt"
    command = [sys.executable, "-m", "local.sample.call_details", "--out", str(path), "--records"]
    subprocess.run([*command, "12"], cwd=ROOT, check=True)
    assert len(records(path)) == 12
    refused = subprocess.run([*command, "-5"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "records must be 0 or more" in refused.stderr
