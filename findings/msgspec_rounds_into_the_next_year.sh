#!/usr/bin/env bash
# msgspec 0.21.1, pydantic 2.13.4: the last moment of a year in SQL Server's seven digits is the next year to msgspec.
#
# datetime2 and time of SQL Server have seven digits of a second, and 23:59:59.9999999 is how they write the end of a
# day. Python's have six. msgspec rounds the seventh, pydantic and Python itself cut it off. So the same text is the
# 31st of December for one service and the 1st of January for another; a record moves into another day, month and
# partition, and a query "up to the end of the day" takes in a record of the next. A time has no date to carry over to:
# the end of a day is its beginning. And 9999-12-31T23:59:59.9999999, which stands for "still valid" in each temporal
# table, is refused by msgspec as no date at all.
#
# Seen: 2026-12-31T23:59:59.9999999Z: msgspec 2027-01-01, pydantic and Python 2026-12-31T23:59:59.999999; the time
# alone: 00:00:00 and 23:59:59.999999; the year 9999: ValidationError, and accepted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check msgspec==0.21.1 pydantic==2.13.4

"$work/venv/bin/python" - <<'PY'
from datetime import datetime, time

import msgspec
from pydantic import TypeAdapter


def read(kind, text):
    """The value as JSON's text is read by msgspec and by pydantic, and as Python reads it."""
    body = f'"{text}"'.encode()
    try:
        by_msgspec = msgspec.json.decode(body, type=kind).isoformat()
    except msgspec.ValidationError as error:
        by_msgspec = str(error)
    others = TypeAdapter(kind).validate_json(body), kind.fromisoformat(text)
    return by_msgspec, *(value.isoformat() for value in others)


year, day, valid = (
    read(datetime, "2026-12-31T23:59:59.9999999Z"),
    read(time, "23:59:59.9999999"),
    read(datetime, "9999-12-31T23:59:59.9999999"),
)
six_digits = read(datetime, "2026-12-31T23:59:59.999999Z")
print("msgspec, pydantic, Python:", year, day, valid, "six digits:", six_digits, sep="\n")
last = "2026-12-31T23:59:59.999999+00:00"
assert year == ("2027-01-01T00:00:00+00:00", last, last)
assert day == ("00:00:00", "23:59:59.999999", "23:59:59.999999")
assert valid == ("Invalid RFC3339 encoded datetime", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999")
assert six_digits == (last,) * 3
PY
