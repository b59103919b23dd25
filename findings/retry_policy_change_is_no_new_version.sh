#!/usr/bin/env bash
# Airflow 3.3.1: a change of a task's retry_policy makes no new version of the DAG, and no version shows it.
#
# Airflow 3 keeps each version of a DAG by a hash of its serialized form, and the UI shows which one a run used. retries
# and retry_delay are in it. Of a retry_policy there is only a flag that the task has one: its class, rules, exceptions
# and delays are not, although ExceptionRetryPolicy has a serialize() of its own. So "try again in 10 s" may become
# "never try again" and versions, their comparison and the REST API show the same DAG; a run that is cleared later obeys
# whatever the file says then.
#
# Seen: same hash for another delay, for another action and for a policy of another class; another hash for retries=4.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from datetime import timedelta

from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, RetryAction, RetryDecision, RetryPolicy, RetryRule
from airflow.serialization.serialized_objects import DagSerialization


class Never(RetryPolicy):
    def evaluate(self, exception, try_number, max_tries, context=None):
        return RetryDecision.fail("never")


def version(policy, retries=3):
    with DAG("orders", schedule=None) as dag:
        BaseOperator(task_id="send", retries=retries, retry_policy=policy)
    return SerializedDagModel.hash(DagSerialization.to_dict(dag))


def rule(action, seconds=None):
    return ExceptionRetryPolicy([RetryRule(ConnectionError, action, seconds and timedelta(seconds=seconds))])


first = version(rule(RetryAction.RETRY, 10))
same = {
    "delay": version(rule(RetryAction.RETRY, 3600)),
    "action": version(rule(RetryAction.FAIL)),
    "class": version(Never()),
}
print({change: hash == first for change, hash in same.items()})
assert set(same.values()) == {first}
assert version(rule(RetryAction.RETRY, 10), retries=4) != first
assert version(None) != first
PY
