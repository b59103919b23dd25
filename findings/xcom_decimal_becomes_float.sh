#!/usr/bin/env bash
# Airflow 3.3.1: a Decimal that one task returns reaches the next one rounded, and still as a Decimal.
#
# Airflow accepts Decimal for XCom, so it looks like the right type for money and meter readings, and boto3 returns each
# number of DynamoDB as one. But it is stored as a float unless it is whole: digits beyond the sixteenth change, and
# trailing zeros, the scale, vanish. The reader gets a Decimal again and cannot tell. A whole one survives whatever its
# length. Text survives too.
#
# Seen: Decimal("12345678901234567.89") arrives as Decimal("12345678901234568"), Decimal("0.10") as Decimal("0.1").
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from decimal import Decimal

from airflow.sdk import dag, task

SENT = ["12345678901234567.89", "0.10", "123456789012345678901234567890"]


@dag(schedule=None)
def finding():
    @task
    def send():
        return [Decimal(text) for text in SENT]

    @task
    def receive(values):
        return [type(value).__name__ + " " + str(value) for value in values]

    receive(send())


made = finding()
if __name__ == "__main__":
    received = made.test().get_task_instance("receive").xcom_pull(task_ids="receive")
    print(SENT, received, sep="\n")
    assert received == ["Decimal 12345678901234568", "Decimal 0.1", "Decimal 123456789012345678901234567890"]
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py"
