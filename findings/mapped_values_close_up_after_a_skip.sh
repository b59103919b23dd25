#!/usr/bin/env bash
# Airflow 3.3.1: zip() of two mapped tasks pairs values of different items once one of them was skipped.
#
# The values of a mapped task read as a list, one for each item that it was expanded over. An instance that was skipped,
# or returned None, has stored none, and the list closes up: what comes after it moves one place forward. So the third
# price has the second place, and price.zip(address), the documented way to hand two results of each item on, gives the
# price of c with the address of b, without an error, and has no pair for the last item. An index, and enumerate() over
# the values beside the list of the items, go wrong alike. A value that names its own item, or a task group that is
# mapped as a whole, keeps them together.
#
# Seen, for a, b, c, with b skipped in one task, and None in another: both have two values; zip: (price of a, address of
# a), (price of c, address of b). In a mapped task group: a with a, c with c.
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
from airflow.sdk import dag, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

orders = ["a", "b", "c"]


@task
def skipped(order):
    if order == "b":
        raise AirflowSkipException
    return f"price of {order}"


@task
def none(order):
    return None if order == "b" else f"price of {order}"


@task
def address(order):
    return f"address of {order}"


@task(trigger_rule="none_failed")
def send(pair):
    return list(pair)


@task
def send_both(price, address):
    return [price, address]


@dag(schedule=None)
def finding():
    addresses = address.expand(order=orders)
    for price in (skipped, none):
        send.override(task_id=f"send_{price.function.__name__}").expand(pair=price.expand(order=orders).zip(addresses))

    @task_group
    def each(order):
        send_both(skipped(order), address(order))

    each.expand(order=orders)


made = finding()
if __name__ == "__main__":
    run = made.test()

    def sent(task_id):
        instances = sorted(run.get_task_instances(), key=lambda instance: instance.map_index)
        done = [item for item in instances if (item.task_id, item.state) == (task_id, "success")]
        return [tuple(item.xcom_pull(task_ids=task_id, map_indexes=item.map_index)) for item in done]

    by_zip = [sent("send_skipped"), sent("send_none")]
    in_group = sent("each.send_both")
    print("zip:", *by_zip, "in a mapped group:", in_group, sep="\n")
    assert by_zip == [[("price of a", "address of a"), ("price of c", "address of b")]] * 2
    assert in_group == [("price of a", "address of a"), ("price of c", "address of c")]
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
