#!/usr/bin/env bash
# aws-lambda-powertools 3.37.0: values of one metric in two units are published in the last one, unconverted.
#
# Metrics collects values by name until the function ends. add_metric checks each unit, but keeps one for a name: with
# 1500 Milliseconds from one place and 2 Seconds from another, CloudWatch is told 1500 and 2 seconds, and the other
# order gives 2 milliseconds. No warning, no error; the alarm on the maximum goes off, or never does. Values have a
# gap as well: text is refused, NaN is written as it is. That is no JSON, and all other metrics of the call are on
# that line.
#
# Seen: Latency [1500.0, 2.0] as Seconds; other order: [2.0, 1500.0] as Milliseconds; a value of text:
# MetricValueError; NaN beside Orders: no error, and a line that a strict reader of JSON refuses.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aws-lambda-powertools==3.37.0

POWERTOOLS_METRICS_NAMESPACE=Orders POWERTOOLS_SERVICE_NAME=orders "$work/venv/bin/python" - <<'PY'
import contextlib
import io
import json

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit, MetricValueError


def published(*values):
    """The line that one call of a function writes for CloudWatch."""
    metrics = Metrics()
    metrics.clear_metrics()
    for name, unit, value in values:
        metrics.add_metric(name, unit, value)
    with contextlib.redirect_stdout(io.StringIO()) as line:
        metrics.flush_metrics()
    return line.getvalue()


def latency(*values):
    line = json.loads(published(*values))
    return line["Latency"], [metric["Unit"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]]


def strict(line):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(line, parse_constant=refuse)
    except ValueError as error:
        return str(error)


milliseconds = ("Latency", MetricUnit.Milliseconds, 1500)
seconds = ("Latency", MetricUnit.Seconds, 2)
orders = ("Orders", MetricUnit.Count, 7)
forward, backward = latency(milliseconds, seconds), latency(seconds, milliseconds)
try:
    text = published(("Latency", MetricUnit.Seconds, "2"))
except MetricValueError:
    text = MetricValueError
nan = strict(published(orders, ("Latency", MetricUnit.Seconds, float("nan"))))
print(forward, backward, text, nan, sep="\n")
assert forward == ([1500.0, 2.0], ["Seconds"])
assert backward == ([2.0, 1500.0], ["Milliseconds"])
assert text is MetricValueError
assert nan == "NaN is no JSON"
assert strict(published(orders))["Orders"] == [7.0]
PY
