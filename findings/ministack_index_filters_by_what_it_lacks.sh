#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a query of a DynamoDB index filters by attributes that the index does not have.
#
# A global secondary index holds its own copy of an item, with the attributes of its projection, and a query of it
# cannot fetch others. For AWS a filter on another attribute therefore sees none: a comparison keeps nothing, and
# attribute_not_exists keeps everything. The emulator filters whole items and leaves attributes out afterwards. So a
# listing of what is open works against an index of keys, and on AWS is empty, or full of what is done. Two requests
# that DynamoDB refuses are accepted too: all attributes of such an index, and a filter on an attribute of the key.
#
# Seen, of three items, one of them open: state = open 1, with its keys alone; state missing 0; all attributes: keys
# alone; a filter on the sort key 2.
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
import boto3

dynamodb = boto3.client("dynamodb")
dynamodb.create_table(
    TableName="events",
    BillingMode="PAY_PER_REQUEST",
    AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("id", "owner", "made")],
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    GlobalSecondaryIndexes=[
        {
            "IndexName": "by-owner",
            "KeySchema": [
                {"AttributeName": "owner", "KeyType": "HASH"},
                {"AttributeName": "made", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
)
for number, state in enumerate(("open", "done", "done")):
    item = {"id": str(number), "owner": "a", "made": str(number), "state": state}
    dynamodb.put_item(TableName="events", Item={name: {"S": text} for name, text in item.items()})


def items(text=None, **request):
    values = {":owner": {"S": "a"}}
    if text:
        values[":text"] = {"S": text}
    return dynamodb.query(
        TableName="events",
        IndexName="by-owner",
        KeyConditionExpression="#owner = :owner",
        ExpressionAttributeNames={
            "#owner": "owner",
            **({"#state": "state"} if "#state" in request.get("FilterExpression", "") else {}),
        },
        ExpressionAttributeValues=values,
        **request,
    )["Items"]


plain = items()
is_open = items("open", FilterExpression="#state = :text")
stateless = items(FilterExpression="attribute_not_exists(#state)")
whole = items(Select="ALL_ATTRIBUTES")
by_key = items("1", FilterExpression="made >= :text")
print("open:", is_open, "without a state:", stateless, "all attributes:", whole, "by the sort key:", by_key, sep="\n")
assert all(item.keys() == {"id", "owner", "made"} for item in plain + whole + by_key)
assert len(plain) == len(whole) == 3
assert is_open == plain[:1]
assert stateless == []
assert by_key == plain[1:]
PY
