"""Files of call details of any size, for the ingest pipeline: what is dropped under ``incoming/``.

Content depends on the arguments alone, so two machines, and two runs, have the same files::

    python -m local.sample.call_details --records 1000000 --out calls.txt
    python -m local.sample.call_details --records 20000 --format text --broken-share 0.01 --out calls.txt.gz
"""

from __future__ import annotations

import argparse
import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import batched
from pathlib import Path
from typing import IO, cast

FORMATS = ("json", "text")
DEFAULT_RECORDS = 10_000

_FIRST_CALL = datetime(2026, 3, 8, tzinfo=UTC)
_RESULTS = ("answered", "busy", "no answer", "voicemail")
# A prime far larger than the numbers: neighbours look unrelated, and yet no two are alike.
_SCATTER = 7_919_999_983
_LINES_AT_ONCE = 5_000


def write_call_details(
    path: Path, *, records: int = DEFAULT_RECORDS, form: str = "json", broken_share: float = 0.0
) -> None:
    """Write a file with so many records; one whose name ends in ``.gz`` is compressed.

    JSON files have an object of about 100 bytes a line. Text files have fields between semicolons, and Windows' ends
    of lines. A broken line is cut off, has a byte that is not UTF-8, or a ``NaN``, and a blank line follows it.
    The file appears as a whole or not at all and replaces an earlier one; its folder is created.

    Args:
        path: the file.
        records: lines that are not blank, 0 or more.
        form: ``json`` or ``text``.
        broken_share: share of broken lines, 0 to 1, evenly spread.

    Raises:
        ValueError: an argument out of range.
        OSError: the file cannot be written.
    """
    if records < 0:
        raise ValueError(f"records must be 0 or more, not {records}")
    if not 0 <= broken_share <= 1:
        raise ValueError(f"broken_share must be 0 to 1, not {broken_share}")
    if form not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {form!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with _opened(unfinished, compressed=path.name.endswith(".gz")) as file:
            for lines in batched(_lines(records, _json if form == "json" else _text, broken_share), _LINES_AT_ONCE):
                file.write(b"".join(lines))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        # Without name and time in the header, so that the same arguments give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as text:
            yield cast("IO[bytes]", text)


def _lines(records: int, line: Callable[[int], bytes], broken_share: float) -> Iterator[bytes]:
    share = Fraction(str(broken_share))
    # Counted in whole numbers: exact to the last line of any file, and quick.
    over, under = share.numerator, share.denominator
    broken = 0
    for number in range(records):
        made = line(number)
        if over and (number + 1) * over // under > broken:
            made = _break(made, broken)
            broken += 1
        yield made


def _call(number: int) -> tuple[str, int, int, int, str]:
    """When, from, to, seconds, result."""
    scattered = (number * _SCATTER) % 10_000_000_000
    when = (_FIRST_CALL + timedelta(milliseconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    seconds = scattered % 3600
    return when, scattered, scattered * 3 % 10_000_000_000, seconds, _RESULTS[seconds % 4]


def _json(number: int) -> bytes:
    when, caller, called, seconds, result = _call(number)
    return (
        f'{{"id":{number + 1},"at":"{when}","from":"+{caller:010d}","to":"+{called:010d}",'
        f'"s":{seconds},"r":"{result}"}}\n'
    ).encode()


def _text(number: int) -> bytes:
    when, caller, called, seconds, result = _call(number)
    return f"{number + 1};{when};+{caller:010d};+{called:010d};{seconds};{result}\r\n".encode()


def _break(line: bytes, kind: int) -> bytes:
    content = line.rstrip()
    if kind % 3 == 0:
        return content[: len(content) // 2] + b"\n\n"
    if kind % 3 == 1:
        return content[:-2] + b"\xff" + content[-2:] + b"\n \t\n"
    return content.replace(b'"s":', b'"s":NaN,"seconds":') + b"\n\r\n"


def main() -> None:
    """Parse the arguments and write the file; bad values end with status 2 and a sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m local.sample.call_details", description="Write a file of call details."
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write; replaced if it exists, compressed if it ends in .gz"
    )
    parser.add_argument("--records", type=int, default=DEFAULT_RECORDS, help="records (default %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="json", help="of the lines (default %(default)s)")
    parser.add_argument(
        "--broken-share", type=float, default=0.0, help="share of broken lines, 0 to 1 (default %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        write_call_details(
            arguments.out, records=arguments.records, form=arguments.format, broken_share=arguments.broken_share
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
