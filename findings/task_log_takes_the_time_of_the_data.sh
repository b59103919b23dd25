#!/usr/bin/env bash
# Airflow 3.3.1, structlog 26.1.0: a field named timestamp becomes the time of its line in a task's log, and the line is
# shown at another place; a field named level is lost.
#
# Airflow 3 logs by structlog, so that a task may add fields to a line: log.info("reading stored", meter="M-7"). The
# time of the line is a field too, and Airflow sets it only if there is none. With timestamp=reading["timestamp"], what
# a record's own time is often called, the line is one of last March. The UI shows a log sorted by time, so it comes
# before the first line of the task, and when it was really written is nowhere; a log store with a limit of age drops
# it. The other way round, the level of the line replaces a field of that name without a word. Fields with other names
# are kept.
#
# Seen: lines first, reading, last; in the file reading has the time of the data, and no other, and level info in place
# of 12.5; the reader gives reading, first, last.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  structlog==26.1.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False
"$work/venv/bin/python" -W ignore - <<'PY'
import io
import json
import logging

import structlog
from airflow.sdk.execution_time.supervisor import process_log_messages_from_subprocess
from airflow.sdk.log import configure_logging, logging_processors
from airflow.utils.log.file_task_handler import _interleave_logs

# As in a task: its process sends lines to the supervisor, which writes them to the file that the UI reads.
sent, file = io.BytesIO(), io.BytesIO()
configure_logging(json_output=True, output=sent, sending_to_supervisor=True)
log = structlog.get_logger("task")
log.info("first")
log.info("reading", meter="M-7", timestamp="2026-03-02T06:00:00Z", level=12.5)
log.info("last")

written = structlog.wrap_logger(structlog.BytesLogger(file), processors=logging_processors(json_output=True)).bind()
supervisor = process_log_messages_from_subprocess((written,))
next(supervisor)
for line in sent.getvalue().splitlines():
    supervisor.send(line)
lines = file.getvalue().decode().splitlines()
first, reading, last = map(json.loads, lines)
shown = [line.event for line in _interleave_logs(iter(lines))]
print(*lines, shown, sep="\n")
assert [line["event"] for line in (first, reading, last)] == ["first", "reading", "last"]
assert reading.pop("timestamp").startswith("2026-03-02T06:00:00")
assert reading.pop("level") == "info"
assert reading["meter"] == "M-7"
assert "12.5" not in lines[1]
assert first["timestamp"] < last["timestamp"]
assert shown == ["reading", "first", "last"]
PY
