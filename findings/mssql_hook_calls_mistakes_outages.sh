#!/usr/bin/env bash
# Airflow 3.3.1, mssql provider 4.7.0, pymssql 2.3.13: MsSqlHook turns mistakes in a connection into what an outage is,
# and real ones into errors that are no pymssql.Error.
#
# A connection without a port is not given the default 1433: the hook passes the text "None". pymssql then fails with
# OperationalError 20009, "server is unavailable or does not exist", without having called any server: the very error of
# one that is down, which a retry policy waits for. Keys of "extra" go to pymssql as they are, and its complaints come
# in three types: an unknown key is a TypeError, a wrong encryption a ValueError, a wrong protocol version an exception
# of a private module, of which none is a pymssql.Error. So neither "except pymssql.Error" nor the error's number tells
# the two apart.
#
# Seen: the same type and number as for a port that refuses, without its line "Net-Lib error ... Connection refused".
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-microsoft-mssql==4.7.0 pymssql==2.3.13

AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL "$work/venv/bin/python" -W ignore - <<'PY'
import json
import os
import socket

import pymssql
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook

with socket.socket() as bound:  # a port of this machine that refuses connections
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]


def connect(**connection):
    fields = {"conn_type": "mssql", "host": "127.0.0.1", "login": "app", "password": "made-up", **connection}
    os.environ["AIRFLOW_CONN_DB"] = json.dumps(fields)
    try:
        MsSqlHook(mssql_conn_id="db").get_conn()
    except Exception as error:
        return error
    raise AssertionError("connected")


for name, error in (("refused", connect(port=port)), ("no port", connect())):
    number, text = error.args[0]
    print(f"{name}: {type(error).__name__} {number}, {text.decode().splitlines()[1:3]}")
    assert isinstance(error, pymssql.OperationalError)
    assert number == 20009
    assert (b"Connection refused" in text) is (name == "refused")

wrong = {
    "unknown key": {"timeuot": 5},
    "encryption": {"encryption": "strict!"},
    "protocol version": {"tds_version": "9.9"},
}
for name, extra in wrong.items():
    error = connect(port=port, extra=extra)
    print(f"{name}: {type(error).__module__}.{type(error).__name__}: {error}")
    assert not isinstance(error, pymssql.Error)
    wrong[name] = type(error).__name__
assert wrong == {"unknown key": "TypeError", "encryption": "ValueError", "protocol version": "MSSQLException"}
PY
