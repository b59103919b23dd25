#!/usr/bin/env bash
# cfn-lint 1.53.3: one line of a template, the SAM transform, switches the check of IAM action names off.
#
# W3037 knows every action of every service and reports a misspelt one in a policy. The rule returns at once for any
# template that has the transform, also for a plain AWS::IAM::ManagedPolicy that SAM never touches, and says nothing of
# it. CloudFormation accepts the policy too, so the mistake is first seen as an AccessDenied in production. Policies
# that lie in a template of their own, without the transform, are checked.
#
# Seen: without the transform "W3037 'getobjcet' is not one of [...]", exit status 4; with it no output, status 0.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  cfn-lint==1.53.3 aws-sam-translator==1.113.0

cat >"$work/plain.yaml" <<'YAML'
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Reader:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Action: s3:GetObjcet
            Resource: "*"
YAML
sed '1a Transform: AWS::Serverless-2016-10-31' "$work/plain.yaml" >"$work/sam.yaml"

plain=0 sam=0
"$work/venv/bin/cfn-lint" "$work/plain.yaml" >"$work/plain.txt" || plain=$?
"$work/venv/bin/cfn-lint" "$work/sam.yaml" >"$work/sam.txt" || sam=$?
echo "without the transform: status $plain, $(cut -c1-24 "$work/plain.txt" | head -1)"
echo "with the transform:    status $sam, $(wc -c <"$work/sam.txt") bytes of output"
[ "$plain" -ne 0 ]
grep -q "W3037 'getobjcet'" "$work/plain.txt"
[ "$sam" -eq 0 ]
[ ! -s "$work/sam.txt" ]
