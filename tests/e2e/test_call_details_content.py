"""Files as no one should write them: each ends as the rules say, and none keeps another from ending."""

import gzip
import json

from tests.worlds.live.call_details import BATCHES, CLOSE_TASK, PLAN_TASK, POST_TASK, File, Ingest
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Ended

DEEP = "[" * 5_000 + "]" * 5_000
HUGE = "9" * 5_000

LINES: list[tuple[bytes, str | None]] = [
    (b'\xef\xbb\xbf{"after": "the byte order mark"}\n', '{"after": "the byte order mark"}'),
    (b'{"windows": 1}\r\n', '{"windows": 1}'),
    (b"bare\rreturn\n", '{"data":"bare\\rreturn","lineNumber":3}'),
    (b"\r\n", None),
    ("line\u2028separator\n".encode(), '{"data":"line\u2028separator","lineNumber":4}'),
    (b"vertical\vtab\fform feed\n", '{"data":"vertical\\u000btab\\fform feed","lineNumber":5}'),
    (b"nul\0byte\n", '{"data":"nul\\u0000byte","lineNumber":6}'),
    (b'{"invalid": "\xff\xc2"}\n', '{"invalid": "\ufffd\ufffd"}'),
    (b"\xe2\x80\n", '{"data":"\ufffd","lineNumber":8}'),
    (b'{"a": NaN}\n', '{"data":"{\\"a\\": NaN}","lineNumber":9}'),
    (b"-Infinity\n", '{"data":"-Infinity","lineNumber":10}'),
    (f'{{"huge": {HUGE}.50}}\n'.encode(), f'{{"huge": {HUGE}.50}}'),
    (b' \t{"twice": 1, "twice": 2} \n', '{"twice": 1, "twice": 2}'),
    (f"{DEEP}\n".encode(), DEEP),
    (f"{DEEP[:-1]}\n".encode(), f'{{"data":"{DEEP[:-1]}","lineNumber":14}}'),
    (b" \t\v\f\x85 \n", '{"data":"\ufffd","lineNumber":15}'),
    ("\u2003\u3000\n".encode(), None),
    (b'"\\ud800"\n', '"\\ud800"'),
    (b"null\n", "null"),
    (b"{'no': 'end of line'}", '{"data":"{\'no\': \'end of line\'}","lineNumber":18}'),
]
"""Each line with its end, and the record that it is to be."""

LONG_KEY = f"{'ö' * 480}.txt"
ODD_KEY = "../%2e {{ 7 * 7 }} & \"quoted\" 'key' <b>?#=+ .txt"

BOMB = gzip.compress((b"x" * 1023 + b"\n") * 1024) * 1_000
"""Some megabytes that become a gigabyte."""


UNREADABLE = {
    "cut off": (gzip.compress(b"1\n" * 100_000)[:-20], "the gzip file is cut off"),
    "damaged": (b"\x1f\x8b1\n2\n", "the file is not gzip, or damaged"),
    "zip": (b"PK\x03\x04" + b"1\n" * 1_000, "the file is zip, not text"),
    "bomb": (BOMB, "expands to more than"),
}
"""Content of files named ``.gz``, and what people are to read."""


def start_all(ingest: Ingest, files: dict[str, File]) -> dict[str, Ended]:
    """Run all files at the same time, and wait for their ends."""
    started = {name: ingest.start(file) for name, file in files.items()}
    return {name: ingest.pipeline.ended(run_id) for name, run_id in started.items()}


def test_hostile_files_end_as_the_rules_say(ingest: Ingest, partners: Partners) -> None:
    told = [record for _, record in LINES if record is not None]
    long_line = json.dumps({"long": "x" * 10_000_000})
    files = {
        "hostile": ingest.drop("hostile.txt", b"".join(line for line, _ in LINES), told=told),
        "blank": ingest.drop("blank.txt", b"\xef\xbb\xbf \r\n\n\t\n", told=[]),
        "empty": ingest.drop("empty.txt", b"", told=[]),
        "one long line": ingest.drop(
            "long line.txt", f"{long_line}\nshort".encode(), told=[long_line, '{"data":"short","lineNumber":2}']
        ),
        "members": ingest.drop(
            "Members.TXT.GZ",
            gzip.compress(b"1\n2") + gzip.compress(b"3\n\nend"),
            told=["1", "23", '{"data":"end","lineNumber":3}'],
        ),
        "gzip without its suffix": ingest.drop("packed.jsonl", gzip.compress(b'{"n":1}\n'), told=['{"n":1}']),
        "UTF-16": ingest.drop(
            "utf-16.txt", "\ufeff{}\r\nß\r\n".encode("utf-16-be"), told=["{}", '{"data":"ß","lineNumber":2}']
        ),
        "odd key": ingest.drop(ODD_KEY, b"1\n", told=["1"]),
        "long key": ingest.drop(LONG_KEY, b"2\n", told=["2"]),
    }
    before = partners.last()
    runs = start_all(ingest, files)

    assert {name: run.state for name, run in runs.items()} == dict.fromkeys(files, "success")
    for name, file in files.items():
        receipt = ingest.assert_processed(file)
        assert ingest.taken(file) == [1] * len(file.batches), name
        assert receipt["invalid_bytes"] == (5 if name == "hostile" else 0)
    posted = {call["query"]["idempotencyKey"] for call in partners.calls(BATCHES, since=before)}
    assert posted == {key for file in files.values() for key in file.batch_keys}
    for name in ("blank", "empty"):
        assert [task["state"] for task in runs[name].tasks if task["task_id"] == POST_TASK] == ["skipped"]


def test_files_that_cannot_be_read_are_put_aside_and_reported_once(
    ingest: Ingest, partners: Partners, inbox: Inbox
) -> None:
    files = {name: ingest.drop(f"{name}.gz", content, told=[]) for name, (content, _) in UNREADABLE.items()}
    before = partners.last()
    runs = start_all(ingest, files)

    assert partners.calls(BATCHES, since=before) == []
    for name, file in files.items():
        run, (_, reason) = runs[name], UNREADABLE[name]
        assert run.state == "failed"
        assert (run.task(PLAN_TASK)["try_number"], run.task(CLOSE_TASK)["try_number"]) == (1, 1)
        receipt = ingest.receipt(file)
        assert (receipt["outcome"], receipt["records_read"]) == ("unreadable", 0)
        assert reason in receipt["error"]
        assert receipt["stored_as"] == f"failed/{file.etag}/{name}.gz"
        assert ingest.get(receipt["stored_as"])["Body"] == file.content
        (sns,), (slack,) = inbox.about(run.id)
        assert f"nothing of {file.key} was posted" in sns
        assert reason in sns
        assert reason in slack
    assert ingest.keys("incoming/") == ingest.keys("processing/") == []
