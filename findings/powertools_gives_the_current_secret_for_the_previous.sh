#!/usr/bin/env bash
# aws-lambda-powertools 3.37.0: a secret or parameter that was read once is what every later read of its name gets.
#
# get_secret and get_parameter keep what they read for five minutes, by name and transform alone; what else was asked
# for is no part of the key. So a verifier that takes the current signing key and, while keys are rotated, the previous
# one, gets the current one twice, and refuses all tokens of before the rotation; the other way round it never sees the
# new one. decrypt=True gives the encrypted text if another module read the parameter without it. max_age does not say
# how old a value may be: it is that of whoever read first, so max_age=1 gets a value of an hour ago. force_fetch helps.
#
# Seen: AWSPREVIOUS after AWSCURRENT: "new" in place of "old"; decrypt=True after a read without: "ENCRYPTED:..."; a
# secret read with max_age=3600, then changed, and read two seconds later with max_age=1: unchanged.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102 aws-lambda-powertools==3.37.0
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" -W ignore - <<'PY'
import time

import boto3
from aws_lambda_powertools.utilities.parameters import clear_caches, get_parameter, get_secret

secrets, parameters = boto3.client("secretsmanager"), boto3.client("ssm")
for name in ("signing", "webhook"):
    secrets.create_secret(Name=name, SecretString="old")
secrets.put_secret_value(SecretId="signing", SecretString="new")
parameters.put_parameter(Name="/db/password", Value="password", Type="SecureString")
stored = secrets.get_secret_value(SecretId="signing", VersionStage="AWSPREVIOUS")["SecretString"]

current = get_secret("signing"), get_secret("signing", VersionStage="AWSPREVIOUS")
forced = get_secret("signing", VersionStage="AWSPREVIOUS", force_fetch=True)
clear_caches()
previous = get_secret("signing", VersionStage="AWSPREVIOUS"), get_secret("signing")

encrypted = get_parameter("/db/password"), get_parameter("/db/password", decrypt=True)
clear_caches()
decrypted = get_parameter("/db/password", decrypt=True)

first = get_secret("webhook", max_age=3600)
secrets.put_secret_value(SecretId="webhook", SecretString="new")
time.sleep(2)
aged = get_secret("webhook", max_age=1)
print("stored as AWSPREVIOUS:", stored, "current, previous:", current, "forced:", forced)
print("previous, current:", previous, "without and with decrypt:", encrypted, "decrypt alone:", decrypted)
print("changed two seconds ago, max_age=1:", aged)
assert (stored, forced) == ("old", "old")
assert current == ("new", "new")
assert previous == ("old", "old")
assert encrypted[0] == encrypted[1] != decrypted == "password"
assert first == aged == "old"
PY
