#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: a DAG that is rolled back in S3 stays as it was in S3DagBundle, for good.
#
# S3DagBundle downloads an object if its size differs from the local file's or it was modified after the file was
# written. In a versioned bucket the way back is to delete the bad version: the good one before it is current again,
# with its own, older, date. If both are of one size, which a change of an hour or of a flag is, no refresh fetches it;
# each machine that had the bad version keeps running it, and new machines run the good one. Any later upload ends it.
# And a prefix without a slash at its end takes in the folders whose names only begin like it, and fails for them: a
# copy in dags-old/ stops all updates of the bundle "dags".
#
# Seen: version 1 "hour = 6", version 2 "hour = 7" is fetched and deleted: S3 has "hour = 6", two refreshes later the
# bundle has "hour = 7". Prefix "dags" beside dags-old/: ValueError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL AIRFLOW_CONN_AWS_DEFAULT='{"conn_type": "aws"}'
export AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=$work/bundles
AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
import time

import boto3
from airflow.providers.amazon.aws.bundles.s3 import S3DagBundle

s3 = boto3.client("s3")
s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})


def put(key, text):
    time.sleep(1.1)  # S3 gives times in whole seconds
    return s3.put_object(Bucket="code", Key=key, Body=text.encode())["VersionId"]


def seen():
    """What is in S3, and what the bundle has after two refreshes."""
    in_s3 = s3.get_object(Bucket="code", Key="dags/load.py")["Body"].read().decode()
    for _ in range(2):
        bundle.refresh()
    return in_s3, (bundle.path / "load.py").read_text()


put("dags/load.py", "hour = 6")
bundle = S3DagBundle(name="slash", bucket_name="code", prefix="dags/")
bundle.initialize()
first = seen()
bad = put("dags/load.py", "hour = 7")
second = seen()
s3.delete_object(Bucket="code", Key="dags/load.py", VersionId=bad)
rolled_back = seen()
put("dags/load.py", "hour = 8")
later = seen()

put("dags-old/load.py", "hour = 5")
beside = seen()
try:
    S3DagBundle(name="no_slash", bucket_name="code", prefix="dags").initialize()
except ValueError as error:
    no_slash = str(error)
print("S3, bundle:", first, second, "rolled back:", rolled_back, "later:", later, "beside dags-old/:", beside)
print("prefix without a slash:", no_slash)
assert first == ("hour = 6", "hour = 6")
assert second == ("hour = 7", "hour = 7")
assert rolled_back == ("hour = 6", "hour = 7")
assert later == beside == ("hour = 8", "hour = 8")
assert no_slash == "'dags-old/load.py' is not in the subpath of 'dags'"
PY
