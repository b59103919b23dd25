#!/usr/bin/env bash
# aws-lambda-powertools 3.37.0: an idempotent function that calls another one stores its answer as the other's.
#
# A persistence layer keeps the name of the function that used it last, and makes the key of a record from that name
# when it begins, and anew when it ends. If a handler and a function that it calls share a layer, as one table invites
# to, the handler's answer goes under the function's name: over the function's own record, if both have the same
# payload. The handler's record stays "in progress", so the same event again is an error for as long as the first call
# could have run, and after that the handler works a second time. It needs no threads, only the nesting. With a layer
# for each of the two, on the same table, all is well.
#
# Seen, shared layer: handler "handled", again IdempotencyAlreadyInProgressError, function alone "handled", the handler
# after its time: works again; two layers: "handled", "handled", "paid", worked once.
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
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyAlreadyInProgressError

dynamodb = boto3.client("dynamodb")
EVENT = {"order": "1"}


class Context:
    def get_remaining_time_in_millis(self):
        return 5_000


def outcomes(table, *, shared):
    """Answers of the handler, of the handler again, and of the function that it calls; records; how often it worked."""
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    layer = DynamoDBPersistenceLayer(table_name=table)
    config = IdempotencyConfig()

    @idempotent_function(
        data_keyword_argument="order",
        config=config,
        persistence_store=layer if shared else DynamoDBPersistenceLayer(table_name=table),
    )
    def pay(order):
        return "paid"

    @idempotent(config=config, persistence_store=layer)
    def handler(event, context):
        worked.append(pay(order=event))
        return "handled"

    worked = []
    first = handler(EVENT, Context())
    try:
        again = handler(EVENT, Context())
    except IdempotencyAlreadyInProgressError as error:
        again = type(error).__name__
    records = {item["id"]["S"].split("#")[0].split(".")[-1]: item for item in dynamodb.scan(TableName=table)["Items"]}
    states = {name: (item["status"]["S"], item.get("data", {}).get("S")) for name, item in records.items()}
    alone = pay(order=EVENT)
    time.sleep(5)
    handler(EVENT, Context())
    return [first, again, alone], states, len(worked)


shared, shared_records, shared_times = outcomes("shared", shared=True)
apart, apart_records, apart_times = outcomes("apart", shared=False)
print("one layer:", shared, shared_records, shared_times, "two layers:", apart, apart_records, apart_times, sep="\n")
assert shared == ["handled", "IdempotencyAlreadyInProgressError", "handled"]
assert shared_records == {"handler": ("INPROGRESS", None), "pay": ("COMPLETED", '"handled"')}
assert apart == ["handled", "handled", "paid"]
assert apart_records == {"handler": ("COMPLETED", '"handled"'), "pay": ("COMPLETED", '"paid"')}
assert (shared_times, apart_times) == (2, 1)
PY
