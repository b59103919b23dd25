"""The template of Airflow on MWAA: what the documents say, in private, and made before there is a bundle."""

import json
import re
from typing import Any

import pytest

from airflow_ext.defaults import schedule_timezone
from include.alerts import RUNBOOK
from infra.release.deployment.steps import VERSIONED
from infra.release.deployment.target import ALIKE, FILLED_IN
from local.processes.layout import StackSecrets
from local.services.airflow import Places, airflow_variables
from tests.packaging.template import read_template
from tests.worlds.templates import INFRA, load, properties_of, walk

MWAA = load("mwaa.yaml")
ROOT = INFRA.parent
AIRFLOW = MWAA["Resources"]["Airflow"]
OPTIONS: dict[str, Any] = AIRFLOW["Properties"]["AirflowConfigurationOptions"]

NOT_ON_MWAA = {"endpoint_url", "region_name"}
"""What the local stack adds to the secrets backend: where the emulator is."""

TOPIC = "pipelines.alert_topic_arn"

NOT_ALIKE = {"pipelines.retry_base_seconds", TOPIC}
"""Options that the local stack sets otherwise on purpose: retries can be watched, the topic is its own."""


def value_of(option: str) -> str:
    """An option as the environment gets it, with the template's defaults."""
    value = OPTIONS[option]
    if isinstance(value, dict):
        parameter = value["Ref"] if "Ref" in value else re.fullmatch(r"\$\{(\w+)\}", value["Fn::Sub"])[1]
        value = MWAA["Parameters"][parameter]["Default"]
    assert isinstance(value, str | int)
    return str(value)


def documented() -> dict[str, str]:
    """The table of options in docs/CONFIGURATION.md: what it says of each, by its name."""
    text = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.\w+)` \| `(AIRFLOW__\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert rows
    for option, variable, _ in rows:
        section, name = option.split(".")
        assert variable == f"AIRFLOW__{section}__{name}".upper(), option
    return {option: said for option, _, said in rows}


def documented_backend() -> dict[str, Any]:
    text = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (found,) = [json.loads(block) for block in blocks if "connections_prefix" in block]
    assert isinstance(found, dict)
    return found


def local() -> dict[str, str]:
    """The local stack's options by MWAA's names for them."""
    places = Places(ROOT, "http://a", "http://a/execution/", "http://b", "c", "d")
    variables = airflow_variables(places, StackSecrets())
    parts = {name: name.split("__") for name in variables if name.startswith("AIRFLOW__")}
    return {f"{part[1]}.{part[2]}".lower(): variables[name] for name, part in parts.items()}


def test_options_are_exactly_those_that_the_document_lists() -> None:
    assert set(OPTIONS) == set(documented())


def test_options_have_the_values_that_the_document_gives() -> None:
    backend = documented_backend()
    for option, said in documented().items():
        if option == "secrets.backend_kwargs":
            assert json.loads(value_of(option)) == backend
        elif option == TOPIC:
            assert OPTIONS[option] == {"Ref": "AlertsTopicArn"}
        else:
            given = (
                re.match(r"(\d+)\b(?! s;)", said)
                or re.search(r"set it to `([^`]+)`", said)
                or re.match(r"`([^`]+)`", said)
            )
            assert given, f"the document gives no value of {option}"
            assert value_of(option) == given[1], option


def test_local_stack_runs_with_the_same_options() -> None:
    ours = local()
    for option in set(OPTIONS) & set(ours) - NOT_ALIKE:
        if option == "secrets.backend_kwargs":
            kept = {key: value for key, value in json.loads(ours[option]).items() if key not in NOT_ON_MWAA}
            assert kept == json.loads(value_of(option))
        else:
            assert ours[option] == value_of(option), option
    # The rest are the pipelines' own, whose defaults the local stack leaves alone.
    assert {option for option in OPTIONS if option not in ours} == {
        option for option in OPTIONS if option.startswith("pipelines.") and option not in NOT_ALIKE
    }


def test_defaults_of_the_options_are_those_of_the_code() -> None:
    assert value_of("pipelines.business_timezone") == schedule_timezone()
    assert value_of("pipelines.business_timezone") == read_template()["Parameters"]["BusinessTimezone"]["Default"]
    assert value_of("pipelines.runbook_url") == RUNBOOK
    for dag in ("dex_trigger_archive", "energy_auction", "event_delivery"):
        source = (ROOT / "dags" / f"{dag}.py").read_text(encoding="utf-8")
        found = re.search(r'schedule_of\([^)]*default="([^"]+)"', source)
        assert found, dag
        assert value_of(f"pipelines.{dag}_schedule") == found[1]


def test_zone_is_restricted_and_logs_are_kept_as_in_the_application() -> None:
    for name in (*ALIKE, "LogRetentionDays"):
        ours, theirs = MWAA["Parameters"][name], read_template()["Parameters"][name]
        for key in ("AllowedPattern", "AllowedValues", "Default", "Type"):
            assert ours.get(key) == theirs.get(key), name


def test_airflow_is_the_version_that_everything_was_tested_with() -> None:
    pins = (ROOT / "requirements" / "local.txt").read_text(encoding="utf-8")
    version = MWAA["Parameters"]["AirflowVersion"]
    assert f"apache-airflow=={version['Default']}\n" in pins
    assert version["AllowedValues"] == [version["Default"]]


def test_template_makes_everything_but_the_environment_before_there_is_a_bundle() -> None:
    assert AIRFLOW["Condition"] == "HasBundle"
    assert MWAA["Conditions"]["HasBundle"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "PluginsS3ObjectVersion"}, ""]}]}
    for parameter in VERSIONED.values():
        assert MWAA["Parameters"][parameter]["Default"] == ""
    waiting = {name for name, item in MWAA["Resources"].items() if item.get("Condition") == "HasBundle"}
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    assert waiting == {"Airflow", *(name for kind in kinds for name in properties_of(MWAA, kind))}
    for name, item in MWAA["Resources"].items():
        if name not in waiting:
            assert not any(part == {"Ref": "Airflow"} for part in walk(item)), name


def test_history_of_the_runs_and_what_they_run_are_kept() -> None:
    assert (AIRFLOW["DeletionPolicy"], AIRFLOW["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    bucket = MWAA["Resources"]["SourceBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_bundle_is_named_by_versions() -> None:
    properties = AIRFLOW["Properties"]
    assert properties["DagS3Path"] == "dags"
    assert properties["PluginsS3Path"] == "plugins.zip"
    assert properties["RequirementsS3Path"] == "requirements.txt"
    for parameter in VERSIONED.values():
        assert properties[parameter] == {"Ref": parameter}


def test_bucket_is_encrypted_versioned_private_and_keeps_what_the_environment_may_still_fetch() -> None:
    bucket = MWAA["Resources"]["SourceBucket"]["Properties"]
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    for rule in bucket["LifecycleConfiguration"]["Rules"]:
        assert "ExpirationInDays" not in rule
        if "NoncurrentVersionExpiration" in rule:
            assert rule["Prefix"] == "dags/"


def test_airflow_is_in_private_subnets_of_two_zones_with_a_way_out() -> None:
    network = AIRFLOW["Properties"]["NetworkConfiguration"]
    assert network["SubnetIds"] == [{"Ref": "PrivateSubnetA"}, {"Ref": "PrivateSubnetB"}]
    subnets = properties_of(MWAA, "AWS::EC2::Subnet")
    zones = [subnets[item["Ref"]]["AvailabilityZone"] for item in network["SubnetIds"]]
    assert zones == [zone_of("ZoneA", 0), zone_of("ZoneB", 1)]
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets.values())
    routes = properties_of(MWAA, "AWS::EC2::Route")
    for private in ("A", "B"):
        mine = [route for route in routes.values() if route["RouteTableId"] == {"Ref": f"PrivateRoutes{private}"}]
        assert not any("GatewayId" in route for route in mine), "a subnet with a way in is not private"
        assert any("NatGatewayId" in route for route in mine)


def zone_of(parameter: str, place: int) -> dict[str, Any]:
    """A subnet's zone: that of a parameter, or the one at a place among the account's."""
    return {"Fn::If": ["HasZones", {"Ref": parameter}, {"Fn::Select": [place, {"Fn::GetAZs": ""}]}]}


def test_zones_may_be_named_so_that_no_other_zone_of_the_account_replaces_the_subnets() -> None:
    for letter, place in (("A", 0), ("B", 1)):
        assert MWAA["Parameters"][f"Zone{letter}"]["Default"] == ""
        for kind in ("Public", "Private"):
            subnet = MWAA["Resources"][f"{kind}Subnet{letter}"]["Properties"]
            assert subnet["AvailabilityZone"] == zone_of(f"Zone{letter}", place), "a NAT gateway serves its own zone"
    assert MWAA["Conditions"]["HasZones"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ZoneA"}, ""]}]}
    (given,) = MWAA["Rules"]["ZonesComeTogether"]["Assertions"]
    differ = {"Fn::Not": [{"Fn::Equals": [{"Ref": "ZoneA"}, {"Ref": "ZoneB"}]}]}
    assert differ in given["Assert"]["Fn::And"]


def test_update_does_not_wait_for_running_tasks_longer_than_a_deployment_waits() -> None:
    assert AIRFLOW["Properties"]["WorkerReplacementStrategy"] == "FORCED"


def test_subnets_share_the_network_without_overlapping() -> None:
    subnets = properties_of(MWAA, "AWS::EC2::Subnet").values()
    parts = [subnet["CidrBlock"]["Fn::Select"] for subnet in subnets]
    assert sorted(part[0] for part in parts) == [0, 1, 2, 3]
    assert {json.dumps(part[1]) for part in parts} == {json.dumps({"Fn::Cidr": [{"Ref": "VpcCidr"}, 4, 10]})}


def test_nobody_gets_into_airflow_but_its_own_parts() -> None:
    (ingress,) = properties_of(MWAA, "AWS::EC2::SecurityGroupIngress").values()
    assert ingress["SourceSecurityGroupId"] == ingress["GroupId"] == {"Ref": "AirflowSecurityGroup"}
    (group,) = properties_of(MWAA, "AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert AIRFLOW["Properties"]["NetworkConfiguration"]["SecurityGroupIds"] == [{"Ref": "AirflowSecurityGroup"}]


def test_buckets_and_tables_are_reached_without_the_nat_gateway() -> None:
    endpoints = properties_of(MWAA, "AWS::EC2::VPCEndpoint").values()
    free = {
        item["ServiceName"]["Fn::Sub"].rpartition(".")[2] for item in endpoints if item["VpcEndpointType"] == "Gateway"
    }
    assert free == {"s3", "dynamodb"}
    for endpoint in endpoints:
        if endpoint["VpcEndpointType"] == "Gateway":
            assert endpoint["RouteTableIds"] == [{"Ref": "PrivateRoutesA"}, {"Ref": "PrivateRoutesB"}]
        else:
            assert endpoint["PrivateDnsEnabled"] is True, "nothing would use it"


def test_all_five_logs_are_written_and_forgotten() -> None:
    logs = AIRFLOW["Properties"]["LoggingConfiguration"]
    groups = {
        item["LogGroupName"]["Fn::Sub"].rpartition("-")[2]
        for item in properties_of(MWAA, "AWS::Logs::LogGroup").values()
    }
    assert groups == {"DAGProcessing", "Scheduler", "Task", "WebServer", "Worker"}
    assert {name.removesuffix("Logs").lower() for name in logs} == {name.lower() for name in groups}
    assert all(log["Enabled"] for log in logs.values())
    # The deployment reads there whether the requirements were installed.
    assert logs["SchedulerLogs"]["LogLevel"] == "INFO"
    for name, group in properties_of(MWAA, "AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert name in AIRFLOW["DependsOn"], "MWAA would make it first, without an end"


def test_deployment_fills_in_parameters_that_the_template_has() -> None:
    assert MWAA["Parameters"].keys() >= FILLED_IN


def test_template_is_small_enough_to_be_sent_with_the_request() -> None:
    # Larger ones would have to lie in a bucket first.
    assert (INFRA / "mwaa.yaml").stat().st_size <= 51_200


@pytest.mark.parametrize("name", ["mwaa.yaml", "pipeline.yaml", "deploy-role.yaml"])
def test_every_parameter_and_output_is_described(name: str) -> None:
    template = load(name)
    for key, item in (template["Parameters"] | template["Outputs"]).items():
        assert item.get("Description"), key


@pytest.mark.parametrize("name", ["ArchiveSchedule", "AuctionSchedule", "DeliverySchedule"])
def test_schedule_takes_five_fields_only(name: str) -> None:
    parameter = MWAA["Parameters"][name]
    pattern = parameter["AllowedPattern"]
    for taken in (parameter["Default"], "30 20 * * 1-5", "*/5 8-18 1,15 JAN-JUN MON,FRI"):
        assert re.fullmatch(pattern, taken), taken
    for refused in (
        "0 6 * * ? *",
        "0 6 * * ?",
        "0 0 6 * * *",
        "0 6 * *",
        "0 6 L * *",
        "0 6 15W * *",
        "0 6 * * 5#2",
        "",
    ):
        assert not re.fullmatch(pattern, refused), refused


def test_schedules_default_to_those_of_the_dags() -> None:
    defaults = {name: MWAA["Parameters"][name]["Default"] for name in ("ArchiveSchedule", "AuctionSchedule")}
    assert defaults == {"ArchiveSchedule": "30 20 * * *", "AuctionSchedule": "*/5 * * * *"}
