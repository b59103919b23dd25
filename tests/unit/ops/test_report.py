import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from ops.report import Report, age

REPORT = Report(
    "clients",
    {"client": "client", "error": "reason", "bytes": "bytes"},
    [{"client": 1000, "error": "no answer", "bytes": 1000, "key": "a/b"}],
    ["next"],
)


def written(report: Report, *, as_json: bool = False) -> str:
    file = io.StringIO()
    report.write(as_json=as_json, file=file)
    return file.getvalue()


def test_table_shows_the_columns_and_what_to_do_next() -> None:
    lines = [line.rstrip() for line in written(REPORT).splitlines()]
    assert lines == ["clients", "client  reason     bytes", "1000    no answer  1,000", "next"]


def test_json_has_all_fields_of_a_row() -> None:
    found = json.loads(written(REPORT, as_json=True))
    assert found == {
        "title": "clients",
        "rows": [{"client": 1000, "error": "no answer", "bytes": 1000, "key": "a/b"}],
        "notes": ["next"],
    }


def test_empty_table_says_so() -> None:
    assert "none" in written(Report("clients", {"client": "client"}, [])).splitlines()


def test_text_of_others_neither_steers_the_terminal_nor_is_read_as_markup() -> None:
    text = "\x1b[2J [red]no[/red] [/x]"
    shown = written(Report(text, {"error": "reason"}, [{"error": text}], [text]))
    assert "\x1b" not in shown
    assert [line.rstrip() for line in shown.splitlines()].count("\\x1b[2J [red]no[/red] [/x]") == 3


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=45), "45 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=12), "12 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=5), "5 d"),
        (timedelta(seconds=-3), "0 s"),
    ],
)
def test_age_is_said_as_people_say_it(ago: timedelta, text: str) -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert age(now - ago, now) == text
