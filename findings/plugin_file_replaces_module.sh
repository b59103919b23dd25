#!/usr/bin/env bash
# Airflow 3.3.1: any file under plugins/ takes the place of the module that has its bare name, at any depth.
#
# Airflow executes each .py under the plugins folder, also those deep in packages that hold no plugin, and registers it
# in sys.modules under the file's stem alone. plugins/acme/clients/calendar.py becomes the module "calendar": whoever
# imports the standard library's afterwards gets the file. Two files of one stem replace each other; a class that is
# also imported by its full name exists twice, and "except acme.errors.Gone" misses the other. A line "acme/" in
# plugins/.airflowignore keeps the package importable and out of the scan.
#
# Seen: after plugins were loaded, sys.modules["calendar"] is the plugins folder's file, and its class is another object
# than acme.clients.calendar's; with .airflowignore neither.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir -p "$work/plugins/acme/clients"
touch "$work/plugins/acme/__init__.py" "$work/plugins/acme/clients/__init__.py"
printf 'class Gone(Exception):\n    pass\n' >"$work/plugins/acme/clients/calendar.py"

load() {
  "$work/venv/bin/python" -W ignore - <<'PY'
import calendar
import sys

from airflow import plugins_manager, settings

settings.prepare_syspath_for_config_and_plugins()
plugins_manager.ensure_plugins_loaded()
import acme.clients.calendar

now = sys.modules["calendar"]
same_class = getattr(now, "Gone", None) is acme.clients.calendar.Gone
print("plugins" if "/plugins/" in now.__file__ else "standard library", now is calendar, same_class)
PY
}
scanned=$(load)
echo acme/ >"$work/plugins/.airflowignore"
ignored=$(load)
echo "scanned (module, same as before, one class): $scanned; ignored: $ignored"
[ "$scanned" = "plugins False False" ]
[ "$ignored" = "standard library True False" ]
