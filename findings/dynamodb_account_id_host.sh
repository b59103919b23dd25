#!/usr/bin/env bash
# boto3/botocore 1.43.56: an environment variable named AWS_ACCOUNT_ID changes the host that DynamoDB is called at.
#
# CI jobs and deployment scripts set AWS_ACCOUNT_ID for their own use. Beside keys in the environment botocore takes it
# for a part of the credentials, and its DynamoDB client then uses the account's endpoint, whatever text it is. An
# egress rule, proxy or private zone made for dynamodb.<region>.amazonaws.com no longer matches, and S3 in the same
# process goes on working. AWS_ACCOUNT_ID_ENDPOINT_MODE=disabled keeps the regional host.
#
# Seen: dynamodb.eu-west-1.amazonaws.com; with the variable 123456789012.ddb.eu-west-1.amazonaws.com; with the variable
# and the mode "disabled" the first again; S3 never moves. Nothing is sent: a hook answers instead of the network.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check boto3==1.43.56 botocore==1.43.56

host() { # service, further settings...
  local service=$1
  shift
  env -u AWS_PROFILE AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_DEFAULT_REGION=eu-west-1 \
    AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=made-up "$@" "$work/venv/bin/python" - "$service" <<'PY'
import sys
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse


class Empty:
    def stream(self, *args, **kwargs):
        yield b"{}" if sys.argv[1] == "dynamodb" else b""


def answer(request, **_):
    print(urlsplit(request.url).hostname)
    return AWSResponse(request.url, 200, {}, Empty())


client = boto3.client(sys.argv[1])
client.meta.events.register("before-send", answer)
if sys.argv[1] == "dynamodb":
    client.get_item(TableName="orders", Key={"id": {"S": "1"}})
else:
    client.head_bucket(Bucket="orders")
PY
}

regional=$(host dynamodb)
moved=$(host dynamodb AWS_ACCOUNT_ID=123456789012)
kept=$(host dynamodb AWS_ACCOUNT_ID=123456789012 AWS_ACCOUNT_ID_ENDPOINT_MODE=disabled)
s3=$(host s3 AWS_ACCOUNT_ID=123456789012)
printf '%s\n' "plain: $regional" "AWS_ACCOUNT_ID: $moved" "mode disabled: $kept" "S3: $s3"
[ "$regional" = dynamodb.eu-west-1.amazonaws.com ]
[ "$moved" = 123456789012.ddb.eu-west-1.amazonaws.com ]
[ "$kept" = "$regional" ]
[ "$s3" = orders.s3.eu-west-1.amazonaws.com ]
