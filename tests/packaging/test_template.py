"""The application template as text: what must be true of every bucket, table, secret and parameter in it."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from airflow_ext.settings import Settings
from include.call_details.keys import OWN_PREFIXES
from infra.release.templates import NESTED, parse_template
from tests.packaging.template import ROOT, TEMPLATE, of_type, properties_of, read_template, resource

CFN_LINT = ROOT / ".venv-aws" / "bin" / "cfn-lint"
PACKAGED = ("W1100", "W3002")
"""Warnings of cfn-lint that a template has to be packaged: `sam build` and `sam deploy` do that."""

STACKS = sorted((ROOT / "infra" / "stacks").glob("*.yaml"))
BUCKETS = ["ArchiveBucket", "OrderResultsBucket", "IngestBucket"]
TABLES = {
    "OrdersTable": "orders",
    "IngestLedgerTable": "ingest-ledger",
    "EventsTable": "events",
    "ApiKeysTable": "api-keys",
    "SubscriptionsTable": "subscriptions",
}
QUEUES = {
    "CallDetailsDeadLetters": "call-details-dlq",
    "EventQueue": "event-delivery",
    "EventDeadLetters": "event-delivery-dlq",
}

PUT_BY_A_PERSON = {
    "airflow/connections/dex_db",
    "airflow/connections/dex_api",
    "airflow/connections/call_details_api",
    "airflow/connections/slack_alerts",
}
WRITTEN_BY_THE_STACK = {"airflow/variables/settings", "orders-api/jwt", "events-api/event-ids"}


MOST_LINES = 500
"""About as much as somebody reads before he changes something in it."""


def lint(*templates: Path) -> subprocess.CompletedProcess[str]:
    """What `make lint` says of templates that are packaged before they are deployed."""
    assert CFN_LINT.exists(), f"{CFN_LINT} is missing: run `make setup`"
    command = [str(CFN_LINT), "--ignore-checks", *PACKAGED, "--", *map(str, templates)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cfn_lint_notices_a_misspelt_action_in_every_stack_that_make_lint_looks_at(tmp_path: Path) -> None:
    linted = f"cfn-lint --ignore-checks {' '.join(PACKAGED)} -- {TEMPLATE} infra/stacks/*.yaml"
    assert linted in (ROOT / "Makefile").read_text(encoding="utf-8")
    misspelt = []
    for path in STACKS:
        text, count = re.subn(r"\b((?:s3|logs|dynamodb):\w+)$", r"\1x", path.read_text(encoding="utf-8"), flags=re.M)
        if count:
            misspelt.append(tmp_path / path.name)
            misspelt[-1].write_text(text, encoding="utf-8")
    assert len(misspelt) > 4
    found = re.findall(r"^W3037 .*\n(\S+\.yaml):", lint(*misspelt).stdout, re.MULTILINE)
    # Where a template is transformed, the linter looks at no policy.
    assert set(found) == {str(path) for path in misspelt}


def test_stacks_are_short_enough_to_be_read_whole() -> None:
    for path in (ROOT / TEMPLATE, *STACKS):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, path.name


def test_every_stack_is_a_part_of_the_application() -> None:
    root = parse_template((ROOT / TEMPLATE).read_text(encoding="utf-8"), TEMPLATE)
    nested = {item["Properties"]["TemplateURL"] for item in root["Resources"].values() if item["Type"] == NESTED}
    assert nested == {f"stacks/{path.name}" for path in STACKS}


def test_buckets_are_encrypted_versioned_private_and_kept() -> None:
    assert set(of_type("AWS::S3::Bucket")) == set(BUCKETS)
    for name, bucket in of_type("AWS::S3::Bucket").items():
        properties = bucket["Properties"]
        encryption = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms"), name
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}, name
        blocked = properties["PublicAccessBlockConfiguration"]
        assert list(blocked.values()) == [True] * 4, name
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}], name
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_buckets_refuse_requests_without_tls() -> None:
    protected = {}
    for policy in properties_of("AWS::S3::BucketPolicy").values():
        bucket = policy["Bucket"]["Ref"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                assert statement["Effect"] == "Deny"
                assert statement["Principal"] == "*"
                assert statement["Action"] == "s3:*"
                protected[bucket] = statement["Resource"]
    assert protected == {
        bucket: [{"Fn::GetAtt": f"{bucket}.Arn"}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}] for bucket in BUCKETS
    }


@pytest.mark.parametrize(
    ("bucket", "prefixes"), [("ArchiveBucket", {"runs/"}), ("OrderResultsBucket", {"runs/", "alerts/"})]
)
def test_only_run_state_and_undelivered_alerts_expire(bucket: str, prefixes: set[str]) -> None:
    rules = resource(bucket)["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if set(rule) - {"Id", "Status", "Prefix", "AbortIncompleteMultipartUpload"}]
    assert expiring
    assert {rule.get("Prefix") for rule in expiring} == prefixes
    by_id = {rule["Id"]: rule for rule in rules}
    assert by_id["expire-run-state"]["ExpirationInDays"] == 30
    assert by_id["expire-run-state"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert by_id["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_of_call_details_only_plans_and_what_was_moved_away_expire() -> None:
    rules = {rule["Id"]: rule for rule in resource("IngestBucket")["LifecycleConfiguration"]["Rules"]}
    assert [rule["Prefix"] for rule in rules.values() if "ExpirationInDays" in rule] == ["plans/"]
    # S3 refuses rules of one action of which a prefix begins like another, as an empty one would.
    assert read_template()["Conditions"]["WholeBucket"] == {"Fn::Equals": [{"Ref": "IncomingPrefix"}, ""]}
    incoming = {"Fn::If": ["WholeBucket", "incoming/", {"Ref": "IncomingPrefix"}]}
    forgotten = {
        str(rule["Prefix"]): rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules.values()
        if "NoncurrentVersionExpiration" in rule
    }
    assert forgotten == {"plans/": 7, str(incoming): 30, "processing/": 7}
    markers = {str(rule["Prefix"]) for rule in rules.values() if rule.get("ExpiredObjectDeleteMarker")}
    assert markers == set(forgotten), "a marker of each file that ever was, and every listing slower"
    assert rules["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7


def test_files_cannot_be_dropped_where_the_ingest_keeps_its_own() -> None:
    parameter = read_template()["Parameters"]["IncomingPrefix"]
    taken = re.compile(parameter["AllowedPattern"])
    for own in OWN_PREFIXES:
        assert not taken.search(own)
        assert not taken.search(f"{own}below/")
        # The settings refuse the same, but only when a run reads them.
        assert taken.search(f"more-{own}")
    assert all(taken.search(prefix) for prefix in ("", "incoming/", "a b/c/", "processing.2/"))
    assert not any(taken.search(prefix) for prefix in ("incoming", "/", "/incoming/"))


def test_tables_are_kept_encrypted_and_can_be_set_back() -> None:
    assert set(of_type("AWS::DynamoDB::Table")) == set(TABLES)
    for name, table in of_type("AWS::DynamoDB::Table").items():
        properties = table["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
        assert properties["SSESpecification"] == {"SSEEnabled": True}, name
        assert properties["BillingMode"] == "PAY_PER_REQUEST", name
        assert properties["DeletionProtectionEnabled"] is True, name
        assert properties["TableName"] == {"Fn::Sub": f"{TABLES[name]}-${{Environment}}"}
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_ledger_forgets_nothing() -> None:
    properties = resource("IngestLedgerTable")
    assert {key["AttributeName"]: key["KeyType"] for key in properties["KeySchema"]} == {"pk": "HASH", "sk": "RANGE"}
    assert {item["AttributeType"] for item in properties["AttributeDefinitions"]} == {"S"}
    assert "TimeToLiveSpecification" not in properties, "a file that comes again later would be posted again"


def test_queues_are_kept_encrypted_and_refuse_requests_without_tls() -> None:
    assert set(of_type("AWS::SQS::Queue")) == set(QUEUES)
    for name, item in of_type("AWS::SQS::Queue").items():
        assert item["Properties"]["QueueName"] == {"Fn::Sub": f"{QUEUES[name]}-${{Environment}}"}
        assert item["Properties"]["SqsManagedSseEnabled"] is True, name
        assert (item["DeletionPolicy"], item["UpdateReplacePolicy"]) == ("Retain", "Retain"), name
    protected = []
    for policy in properties_of("AWS::SQS::QueuePolicy").values():
        (queue,) = policy["Queues"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert statement["Resource"] == {"Fn::GetAtt": f"{queue['Ref']}.Arn"}
        protected.append(queue["Ref"])
    assert sorted(protected) == sorted(QUEUES)


def test_queues_of_dead_letters_keep_them_as_long_as_they_can() -> None:
    for name in ("CallDetailsDeadLetters", "EventDeadLetters"):
        assert resource(name)["MessageRetentionPeriod"] == 14 * 24 * 3600, name


def test_wake_up_is_forgotten_when_the_timed_runs_have_long_done_its_work() -> None:
    assert resource("EventQueue")["MessageRetentionPeriod"] == 3600
    assert "RedrivePolicy" not in resource("EventQueue"), "the table says what is due; a message alone is worth nothing"


def test_records_of_orders_are_forgotten_after_their_time() -> None:
    properties = resource("OrdersTable")
    assert properties["KeySchema"] == [{"AttributeName": "record_id", "KeyType": "HASH"}]
    assert properties["AttributeDefinitions"] == [{"AttributeName": "record_id", "AttributeType": "S"}]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_secrets_of_people_have_no_value_but_describe_one() -> None:
    by_name = {item["Name"]: item for item in properties_of("AWS::SecretsManager::Secret").values()}
    assert set(by_name) == PUT_BY_A_PERSON | WRITTEN_BY_THE_STACK
    for name in PUT_BY_A_PERSON:
        assert not {"SecretString", "GenerateSecretString"} & set(by_name[name]), name
        shape = re.search(r"\{.*\}", by_name[name]["Description"])
        assert shape, f"{name} does not say what to put"
        credentials = {"extra"} if name.endswith("/call_details_api") else {"password"}
        assert {"conn_type", "host"} | credentials <= set(json.loads(shape[0])), name


def test_secrets_that_nobody_could_make_again_outlive_their_stack() -> None:
    # CloudFormation deletes a secret without any time to recover it.
    kept = {
        item["Properties"]["Name"]
        for item in of_type("AWS::SecretsManager::Secret").values()
        if (item.get("DeletionPolicy"), item.get("UpdateReplacePolicy")) == ("RetainExceptOnCreate", "Retain")
    }
    assert kept == {*PUT_BY_A_PERSON, "orders-api/jwt"}


def test_document_names_all_that_a_creation_that_failed_leaves_in_the_way() -> None:
    document = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
    (step,) = re.findall(r"^4\. \*\*Deploy\*\*.*?^5\.", document, re.MULTILINE | re.DOTALL)
    kinds = {
        "AWS::S3::Bucket": ("BucketName", "${Environment}-${AWS::AccountId}"),
        "AWS::DynamoDB::Table": ("TableName", "${Environment}"),
        "AWS::SQS::Queue": ("QueueName", "${Environment}"),
    }
    for kind, (key, end) in kinds.items():
        for item in properties_of(kind).values():
            assert f"`{item[key]['Fn::Sub'].removesuffix(end)}…`" in step
    assert "`orders-api/jwt`" in step


@pytest.mark.parametrize("name", ["OrdersJwtSecret", "EventIdsSecret"])
def test_key_of_the_tokens_and_of_the_event_ids_is_generated_and_long_enough(name: str) -> None:
    key = resource(name)
    assert "SecretString" not in key
    # HS256 wants at least 256 bits; 64 letters and digits hold 381.
    assert key["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}


def test_tokens_need_an_audience_and_an_issuer_only_where_a_parameter_asks_for_them() -> None:
    """Tokens of the original system have neither."""
    variables = resource("OrdersApiAuthorizerFunction")["Environment"]["Variables"]
    parameters = read_template()["Parameters"]
    for variable, parameter in (("JWT_AUDIENCE", "JwtAudience"), ("JWT_ISSUER", "JwtIssuer")):
        assert variables[variable] == {"Ref": parameter}
        assert parameters[parameter]["Default"] == ""


def test_settings_are_those_that_the_pipelines_read() -> None:
    text, fields = resource("SettingsSecret")["SecretString"]["Fn::Sub"]
    assert set(fields) == {"DexApiBaseUrlField"}
    optional = fields["DexApiBaseUrlField"]["Fn::If"][1]["Fn::Sub"]
    written = json.loads(re.sub(r"\$\{\w+\}", "0", text.replace("${DexApiBaseUrlField}", optional)))
    assert set(written) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        # Numbers and the zone; names of resources have no default, or an empty one.
        if name != "trigger_date_offset_days" and isinstance(field.default, int):
            assert written[name] == field.default, name


def test_every_parameter_and_output_is_described() -> None:
    template = read_template()
    for name, item in (template["Parameters"] | template["Outputs"]).items():
        assert item.get("Description"), name


def test_every_environment_has_its_deployment() -> None:
    config = tomllib.loads((ROOT / "infra" / "samconfig.toml").read_text(encoding="utf-8"))
    environments = {name: body for name, body in config.items() if name not in ("version", "default")}
    assert set(environments) == set(read_template()["Parameters"]["Environment"]["AllowedValues"])
    for name, body in environments.items():
        parameters = body["deploy"]["parameters"]
        assert parameters["stack_name"] == f"pipelines-{name}"
        given = parameters["parameter_overrides"]
        assert [entry for entry in given if entry.startswith("Environment=")] == [f"Environment={name}"]
    # The local stack does what the runbook recommends, so that its tests meet every refusal.
    assert "JwtAudience=orders-api" in environments["local"]["deploy"]["parameters"]["parameter_overrides"]
    assert environments["prod"]["deploy"]["parameters"]["confirm_changeset"] is True
