#!/usr/bin/env bash
# aws-sam-cli 1.167.0, MiniStack 1.5.33: sam deploy leaves out what it cannot place of the parameters, and says nothing.
#
# In samconfig.toml, `parameter_overrides` is a list with a parameter in each item. Still each item is split at blanks,
# as on a command line: of "Origins=https://a.example, https://b.example" only "https://a.example," arrives, unless the
# value is in quotes of its own. A name that the template does not have is passed over, so a misspelt parameter keeps
# its default, or the value of before. Both times the deployment succeeds.
#
# Seen: Origins 'https://a.example,' (in quotes: whole), Mail '' for "Mial=on@example.com", exit code 0.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3 aws-sam-cli aws-sam-translator
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test \
  AWS_SECRET_ACCESS_KEY=test SAM_CLI_TELEMETRY=0

cat >"$work/template.yaml" <<'YAML'
Parameters:
  Origins: {Type: String, Default: ""}
  Quoted: {Type: String, Default: ""}
  Mail: {Type: String, Default: ""}
Resources:
  Topic: {Type: AWS::SNS::Topic}
YAML
cat >"$work/samconfig.toml" <<'TOML'
version = 0.1
[default.deploy.parameters]
stack_name = "shown"
resolve_s3 = true
confirm_changeset = false
parameter_overrides = [
  "Origins=https://a.example, https://b.example",
  "Quoted=\"https://a.example, https://b.example\"",
  "Mial=on@example.com",
]
TOML
(cd "$work" && "$work/emulator/bin/sam" deploy --template-file template.yaml >"$work/sam.log" 2>&1) || { cat "$work/sam.log"; exit 1; }

"$work/emulator/bin/python" - <<'PY'
import boto3

(stack,) = boto3.client("cloudformation").describe_stacks(StackName="shown")["Stacks"]
found = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
print(stack["StackStatus"], found)
assert stack["StackStatus"] == "CREATE_COMPLETE"
assert found == {"Origins": "https://a.example,", "Quoted": "https://a.example, https://b.example", "Mail": ""}
PY
if grep -i "mial" "$work/sam.log" | grep -qi "unknown\|not in\|ignor\|does not exist"; then echo "sam names it now" >&2; exit 1; fi
