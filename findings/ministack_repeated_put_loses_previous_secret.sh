#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a put of a secret that is sent twice loses the secret before it.
#
# Each put_secret_value carries a token, which boto3 makes once and sends again when it repeats the request. For Secrets
# Manager it is the version's id: the same token with the same content does nothing, with other content it is refused.
# The emulator makes the version anew: the label AWSPREVIOUS is taken from its version, which is deleted for having no
# label, and nobody else gets it. Other content replaces what the version held. So after a rotation whose answer was
# lost, the tokens or connections that still use the key before it fail, here and not on AWS.
#
# Seen: put: the old one is AWSPREVIOUS; the same put again: one version, no AWSPREVIOUS; the token with other content:
# the current version holds it.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" - <<'PY'
import uuid

import boto3
from botocore.exceptions import ClientError

secrets = boto3.client("secretsmanager")
sent = []
secrets.meta.events.register("before-send.*.PutSecretValue", lambda request, **_: sent.append(request.body))


def value(**version):
    try:
        return secrets.get_secret_value(SecretId="key", **version)["SecretString"]
    except ClientError as error:
        return error.response["Error"]["Code"]


secrets.create_secret(Name="key", SecretString="old")
secrets.put_secret_value(SecretId="key", SecretString="new")
makes_token = b"ClientRequestToken" in sent[-1]
token = secrets.get_secret_value(SecretId="key")["VersionId"]
once = value(), value(VersionStage="AWSPREVIOUS")
secrets.put_secret_value(SecretId="key", SecretString="new", ClientRequestToken=token)
twice = value(), value(VersionStage="AWSPREVIOUS")
versions = len(secrets.describe_secret(SecretId="key")["VersionIdsToStages"])
secrets.put_secret_value(SecretId="key", SecretString="other", ClientRequestToken=token)
changed = value(VersionId=token)
print("boto3 sends a token:", makes_token, "put once:", once, "put twice:", twice, "versions:", versions, sep="\n")
print("the version after a put of other content:", changed)
assert makes_token
assert token.encode() in sent[0] and uuid.UUID(token)
assert once == ("new", "old")
assert twice == ("new", "ResourceNotFoundException")
assert versions == 1
assert changed == "other"
PY
