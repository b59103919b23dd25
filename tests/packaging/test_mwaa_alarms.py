"""The alarms on the environment: metrics that MWAA publishes, and not what the application's alarms tell."""

import re
from typing import Any

import pytest

from airflow_ext.ids import ALL_PIPELINES, METRICS_NAMESPACE
from tests.packaging.template import properties_of as of_application
from tests.packaging.template import statements_of
from tests.worlds.templates import INFRA, load, properties_of

METRIC_ALARMS = properties_of(load("mwaa.yaml"), "AWS::CloudWatch::Alarm")
COMPOSITE_ALARMS = properties_of(load("mwaa.yaml"), "AWS::CloudWatch::CompositeAlarm")
HALVES = ("UnreportedWithinHour", "UnreportedWithinLongerTime")
"""Alarms that tell nobody: they ring only together, by the alarm UnreportedFailureAlarm."""

ALARMS = {**METRIC_ALARMS, **COMPOSITE_ALARMS}
SIMPLE = {name: alarm for name, alarm in METRIC_ALARMS.items() if "MetricName" in alarm}
ENVIRONMENT = {"Fn::Sub": "pipelines-${Environment}"}

METRICS_OF_MWAA = {
    ("AmazonMWAA", "SchedulerHeartbeat"): {"Function": "Scheduler", "Environment": ENVIRONMENT},
    ("AmazonMWAA", "ImportErrors"): {"Function": "DAG Processing", "Environment": ENVIRONMENT},
    ("AWS/MWAA", "ApproximateAgeOfOldestTask"): {"Environment": ENVIRONMENT},
}
"""Metrics and their dimensions as MWAA's guide lists them ("Apache Airflow environment metrics in CloudWatch", and
"Container, queue, and database metrics"): with others there is no data, and an alarm never rings."""

SIGNS_OF_LIFE = {"SchedulerHeartbeat"}
"""Metrics of which silence is the bad news."""

NAMES_OF_THE_TRIGGERER_S = {"TriggerHeartbeat", "TriggererHeartbeat"}
"""MWAA's guide has the first in the former list, and the second where it describes its own dashboard."""

UNREPORTED = {
    # A round that fails is followed by the next at once; that there is none has an alarm.
    "call_details_watch"
}
"""DAGs whose failed runs nobody needs to hear of."""


def dimensions(metric: dict[str, Any]) -> dict[str, Any]:
    return {item["Name"]: item["Value"] for item in metric["Dimensions"]}


@pytest.mark.parametrize("name", sorted(set(ALARMS) - set(HALVES)))
def test_alarm_reaches_the_topic_and_says_what_to_do(name: str) -> None:
    alarm = ALARMS[name]
    allowed = statements_of("AlertsTopicPolicy")["AlarmsPublish"]["Condition"]["ArnLike"]["aws:SourceArn"]
    prefix = allowed["Fn::Sub"].rpartition(":alarm:")[2].removesuffix("*")
    assert alarm["AlarmName"]["Fn::Sub"].startswith(f"{prefix}airflow-"), "the topic's policy does not let it publish"
    assert alarm["AlarmActions"] == [{"Ref": "AlertsTopicArn"}]
    assert len(alarm["AlarmDescription"]["Fn::Sub"]) > 80
    section = alarm["AlarmName"]["Fn::Sub"].removeprefix("pipelines-${Environment}-")
    assert alarm["AlarmDescription"]["Fn::Sub"].endswith(f" Runbook: ${{RunbookUrl}}#{section}")


@pytest.mark.parametrize("name", SIMPLE)
def test_alarm_watches_a_metric_that_mwaa_publishes_and_knows_what_silence_means(name: str) -> None:
    alarm = SIMPLE[name]
    assert dimensions(alarm) == METRICS_OF_MWAA[alarm["Namespace"], alarm["MetricName"]]
    silent = alarm["MetricName"] in SIGNS_OF_LIFE
    assert alarm["TreatMissingData"] == ("breaching" if silent else "notBreaching")
    assert alarm["ComparisonOperator"].startswith("Less") is silent


def test_every_part_that_runs_the_pipelines_is_watched() -> None:
    assert {(alarm["Namespace"], alarm["MetricName"]) for alarm in SIMPLE.values()} == set(METRICS_OF_MWAA)


def test_triggerer_is_heard_by_whichever_name_its_metric_has() -> None:
    alarm = METRIC_ALARMS["TriggererSilentAlarm"]
    expression, *metrics = alarm["Metrics"]
    assert (expression["Expression"], expression["ReturnData"]) == ('SUM(METRICS("named"))', True)
    assert {item["MetricStat"]["Metric"]["MetricName"] for item in metrics} == NAMES_OF_THE_TRIGGERER_S
    for item in metrics:
        stat = item["MetricStat"]
        assert item["Id"].startswith("named_")
        assert not item["ReturnData"]
        assert (stat["Stat"], stat["Metric"]["Namespace"]) == ("Sum", "AmazonMWAA")
        assert dimensions(stat["Metric"]) == {"Function": "Triggerer", "Environment": ENVIRONMENT}
        assert stat["Period"] * alarm["EvaluationPeriods"] >= 1200, "an update would ring at once"
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "LessThanThreshold")
    assert alarm["TreatMissingData"] == "breaching"


def test_update_of_the_environment_does_not_ring_at_once() -> None:
    for alarm in SIMPLE.values():
        if alarm["MetricName"] in SIGNS_OF_LIFE:
            assert alarm["Period"] * alarm["EvaluationPeriods"] >= 1200


@pytest.mark.parametrize("name", HALVES)
def test_failed_runs_are_counted_by_airflow_and_those_that_were_reported_are_taken_off(name: str) -> None:
    alarm = METRIC_ALARMS[name]
    metrics = {item["Id"]: item for item in alarm["Metrics"]}
    assert len(metrics) <= 10, "CloudWatch takes no more"
    expression = metrics.pop("excess")
    # Both filled: a window without a failed run is a window with none, and not one whose predecessor counts again.
    assert expression["Expression"] == 'FILL(SUM(METRICS("failed")), 0) - FILL(SUM(METRICS("reported")), 0)'
    assert (alarm["EvaluationPeriods"], alarm["Threshold"]) == (1, 1)
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert "AlarmActions" not in alarm, "it rings falsely by itself"
    assert len({item["MetricStat"]["Period"] for item in metrics.values()}) == 1, "CloudWatch wants one period"
    assert [item["Id"] for item in [expression, *metrics.values()] if item["ReturnData"]] == ["excess"]
    failed, reported = {}, {}
    for name, item in metrics.items():
        stat = item["MetricStat"]
        where = dimensions(stat["Metric"])
        if name.startswith("failed_"):
            assert (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) == ("AmazonMWAA", "DAGDurationFailed")
            assert stat["Stat"] == "SampleCount", "its value is a duration"
            failed[where.pop("DAG")] = where
        else:
            assert name.startswith("reported_")
            assert (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) == (
                METRICS_NAMESPACE,
                "ReportedFailures",
            )
            assert stat["Stat"] == "Sum"
            reported[where.pop("Pipeline")] = where
    dags = {path.stem for path in (INFRA.parent / "dags").glob("*.py")}
    assert set(failed) == dags - UNREPORTED
    assert set(reported) == {ALL_PIPELINES}
    assert all(where == {"Environment": ENVIRONMENT} for where in failed.values())
    assert all(where == {"Environment": {"Ref": "Environment"}} for where in reported.values())


def rings(failed: list[int], reported: list[int]) -> list[int]:
    """Minutes at whose end UnreportedFailureAlarm is in alarm.

    A model of CloudWatch: windows end with the minute in which they are looked at, and slide on every minute ("Alarm
    evaluation window", the default). What the model leaves out is that data may come late.
    """
    (composite,) = COMPOSITE_ALARMS.values()
    rule = re.fullmatch(r'ALARM\("\$\{(\w+)\}"\) AND ALARM\("\$\{(\w+)\}"\)', composite["AlarmRule"]["Fn::Sub"])
    assert rule
    assert sorted(rule.groups()) == sorted(HALVES)
    lengths = [METRIC_ALARMS[name]["Metrics"][1]["MetricStat"]["Period"] // 60 for name in rule.groups()]

    def excess(now: int, length: int) -> int:
        window = range(now - length + 1, now + 1)
        return sum(minute in window for minute in failed) - sum(minute in window for minute in reported)

    return [now for now in range(1000) if all(excess(now, length) >= 1 for length in lengths)]


@pytest.mark.parametrize("late", [0, 1, 2, 10, 29])
def test_failure_that_airflow_counts_minutes_after_its_report_never_rings(late: int) -> None:
    assert rings(failed=[300 + late], reported=[300]) == []


def test_failure_without_a_report_rings_at_once_and_for_an_hour() -> None:
    assert rings(failed=[300], reported=[]) == list(range(300, 360))
    assert rings(failed=[300, 301], reported=[300]) == list(range(301, 361))


def test_alarms_of_the_two_templates_have_different_names() -> None:
    theirs = {alarm["AlarmName"]["Fn::Sub"] for alarm in of_application("AWS::CloudWatch::Alarm").values()}
    ours = {alarm["AlarmName"]["Fn::Sub"] for alarm in ALARMS.values()}
    assert len(ours) == len(ALARMS)
    assert not ours & theirs
