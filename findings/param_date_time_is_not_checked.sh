#!/usr/bin/env bash
# Airflow 3.3.1: a Param of format "date-time" accepts any text, while "date", "time" and "duration" are checked.
#
# The form shows a picker for a date, a time and a date-time alike. The check of a run's conf is left to
# jsonschema, which checks date-time only if a package is installed that Airflow does not require and its constraints do
# not bring: without it the format passes silently, and "uri" likewise. So a run that was triggered over the API or the
# command line with "yesterday" starts, and the task fails or, worse, goes on with the text.
#
# Seen: "yesterday" is refused as date, time, duration and email; accepted as date-time and uri.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError


def accepts(form):
    try:
        return Param("x", type="string").resolve("x") == "x" and bool(
            Param(None, type=["null", "string"], format=form).resolve("yesterday, or so")
        )
    except ParamValidationError:
        return False


accepted = {form: accepts(form) for form in ("date", "time", "duration", "email", "date-time", "uri")}
print(accepted)
assert accepted == {"date": False, "time": False, "duration": False, "email": False, "date-time": True, "uri": True}
PY
