"""The application template as text: what must be true of every bucket, policy, secret and alarm in it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ext.ids import METRICS_NAMESPACE

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "infra" / "template.yaml"
CFN_LINT = ROOT / ".venv-aws" / "bin" / "cfn-lint"

ALLOWED_WILDCARDS = {
    (
        "AlertsKey",
        "AccountAdministersTheKey",
    ): "a key policy must leave the key to its account; '*' is this key",
    ("AlertsKey", "AlarmsEncryptTheirMessages"): "in a key policy '*' is this key",
    ("PipelinePolicy", "PublishMetrics"): "PutMetricData knows no resources; a condition names the namespace",
}
"""Statements that may allow ``*`` as a resource or within an action, each with the reason."""

PUT_BY_A_PERSON = {
    "airflow/connections/dex_db",
    "airflow/connections/dex_api",
    "airflow/connections/slack_alerts",
}


class _CloudFormationLoader(yaml.SafeLoader):
    """Reads the short forms (``!Ref x``) as their long ones (``{"Ref": "x"}``)."""


def _long_form(loader: _CloudFormationLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_CloudFormationLoader.add_multi_constructor("!", _long_form)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    document = _CloudFormationLoader(TEMPLATE.read_text(encoding="utf-8")).get_single_data()
    assert isinstance(document, dict)
    return document


def _of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = {name: item for name, item in template["Resources"].items() if item["Type"] == kind}
    assert found, f"the template has no {kind}: the test would prove nothing"
    return found


def _statements(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy statement with the logical id of its resource."""
    for name, item in template["Resources"].items():
        for field in ("PolicyDocument", "KeyPolicy", "AssumeRolePolicyDocument"):
            for statement in item.get("Properties", {}).get(field, {}).get("Statement", []):
                yield name, statement


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_cfn_lint_finds_nothing() -> None:
    assert CFN_LINT.exists(), f"{CFN_LINT} is missing: run `make setup`"
    done = subprocess.run([str(CFN_LINT), str(TEMPLATE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_buckets_are_encrypted_versioned_private_and_kept(template: dict[str, Any]) -> None:
    for name, bucket in _of_type(template, "AWS::S3::Bucket").items():
        properties = bucket["Properties"]
        encryption = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms"), name
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}, name
        blocked = properties["PublicAccessBlockConfiguration"]
        assert list(blocked.values()) == [True] * 4, name
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}], name
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_buckets_refuse_requests_without_tls(template: dict[str, Any]) -> None:
    policies = _of_type(template, "AWS::S3::BucketPolicy").values()
    protected = set()
    for policy in policies:
        bucket = policy["Properties"]["Bucket"]["Ref"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                assert statement["Effect"] == "Deny"
                assert statement["Principal"] == "*"
                assert statement["Action"] == "s3:*"
                assert len(statement["Resource"]) == 2, "the bucket and its objects"
                protected.add(bucket)
    assert protected == set(_of_type(template, "AWS::S3::Bucket"))


def test_only_run_state_expires(template: dict[str, Any]) -> None:
    rules = template["Resources"]["ArchiveBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if set(rule) - {"Id", "Status", "Prefix", "AbortIncompleteMultipartUpload"}]
    assert expiring
    assert {rule.get("Prefix") for rule in expiring} == {"runs/"}
    by_id = {rule["Id"]: rule for rule in rules}
    assert by_id["expire-run-state"]["ExpirationInDays"] == 30
    assert by_id["expire-run-state"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert by_id["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_wildcards_that_allow_are_listed_with_a_reason(template: dict[str, Any]) -> None:
    found = set()
    for name, statement in _statements(template):
        actions = _as_list(statement["Action"])
        assert "*" not in actions, f"{name}/{statement['Sid']} allows or denies every action of every service"
        if statement["Effect"] == "Allow" and (
            "*" in _as_list(statement["Resource"]) or any("*" in action for action in actions)
        ):
            found.add((name, statement["Sid"]))
    assert found == set(ALLOWED_WILDCARDS)


def test_statements_open_to_everyone_only_deny(template: dict[str, Any]) -> None:
    for name, statement in _statements(template):
        if statement.get("Principal") in ("*", {"AWS": "*"}):
            assert statement["Effect"] == "Deny", f"{name}/{statement['Sid']}"


def test_pipeline_cannot_delete_evidence_and_reads_only_our_secrets(template: dict[str, Any]) -> None:
    statements = template["Resources"]["PipelinePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    actions = {action for statement in statements for action in _as_list(statement["Action"])}
    s3_actions = {action for action in actions if action.startswith("s3:")}
    assert s3_actions == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    readable = next(s["Resource"] for s in statements if s["Action"] == "secretsmanager:GetSecretValue")
    assert {item["Ref"] for item in readable} == set(_of_type(template, "AWS::SecretsManager::Secret"))


def test_secrets_of_people_have_no_value_but_describe_one(template: dict[str, Any]) -> None:
    by_name = {
        item["Properties"]["Name"]: item["Properties"]
        for item in _of_type(template, "AWS::SecretsManager::Secret").values()
    }
    assert set(by_name) == PUT_BY_A_PERSON | {"airflow/variables/settings"}
    for name in PUT_BY_A_PERSON:
        assert not {"SecretString", "GenerateSecretString"} & set(by_name[name]), name
        shape = re.search(r"\{.*\}", by_name[name]["Description"])
        assert shape, f"{name} does not say what to put"
        assert {"conn_type", "host", "password"} <= set(json.loads(shape[0])), name


def test_alarms_reach_the_topic(template: dict[str, Any]) -> None:
    publishers = template["Resources"]["AlertsTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = next(s for s in publishers if s["Effect"] == "Allow")["Condition"]["ArnLike"]["aws:SourceArn"]
    prefix = allowed["Fn::Sub"].rpartition(":alarm:")[2].removesuffix("*")
    assert prefix.startswith("pipelines-")
    for name, alarm in _of_type(template, "AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        assert {"Ref": "AlertsTopic"} in properties["AlarmActions"], name
        assert properties["AlarmName"]["Fn::Sub"].startswith(prefix), f"the topic's policy does not let {name} publish"
        assert "TreatMissingData" in properties, name
        assert properties["AlarmDescription"], name
    assert template["Resources"]["ArchiveNoRunAlarm"]["Properties"]["TreatMissingData"] == "breaching"


def test_alarms_of_the_archive_watch_metrics_that_it_publishes(template: dict[str, Any]) -> None:
    published = (ROOT / "plugins" / "airflow_ext" / "archive_report.py").read_text(encoding="utf-8")
    watched = {}
    for name, alarm in _of_type(template, "AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        if properties["Namespace"] == METRICS_NAMESPACE:
            watched[name] = (properties["MetricName"], properties["AlarmName"]["Fn::Sub"])
            assert f'"{properties["MetricName"]}"' in published, f"nothing publishes what {name} watches"
    prefix = "pipelines-${Environment}-dex-trigger-archive"
    assert watched == {
        "ArchiveFailedRunAlarm": ("FailedRuns", f"{prefix}-failed-run"),
        "ArchiveNoRunAlarm": ("ScheduledRuns", f"{prefix}-no-run"),
    }


def test_alarms_may_use_the_key_of_the_topic(template: dict[str, Any]) -> None:
    for name, topic in _of_type(template, "AWS::SNS::Topic").items():
        key = template["Resources"][topic["Properties"]["KmsMasterKeyId"]["Ref"]]
        assert any(
            statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
            and set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
            for statement in key["Properties"]["KeyPolicy"]["Statement"]
        ), f"alarms could not publish to {name}"


def test_every_parameter_and_output_is_described(template: dict[str, Any]) -> None:
    for name, item in (template["Parameters"] | template["Outputs"]).items():
        assert item.get("Description"), name


def test_every_environment_has_its_deployment(template: dict[str, Any]) -> None:
    config = tomllib.loads((ROOT / "infra" / "samconfig.toml").read_text(encoding="utf-8"))
    environments = {name: body for name, body in config.items() if name != "version"}
    assert set(environments) == set(template["Parameters"]["Environment"]["AllowedValues"])
    for name, body in environments.items():
        parameters = body["deploy"]["parameters"]
        assert parameters["stack_name"] == f"pipelines-{name}"
        assert parameters["parameter_overrides"] == [f"Environment={name}"]
    assert environments["prod"]["deploy"]["parameters"]["confirm_changeset"] is True
