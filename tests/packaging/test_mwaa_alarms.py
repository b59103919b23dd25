"""The alarms on the environment: metrics that MWAA publishes, and not what the application's alarms tell."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ext.ids import METRICS_NAMESPACE
from tests.packaging.template import properties_of as of_application
from tests.packaging.template import statements_of
from tests.support.cloudformation import INFRA, load, properties_of

ALARMS = properties_of(load("mwaa.yaml"), "AWS::CloudWatch::Alarm")
SIMPLE = {name: alarm for name, alarm in ALARMS.items() if "MetricName" in alarm}
ENVIRONMENT = {"Fn::Sub": "pipelines-${Environment}"}

METRICS_OF_MWAA = {
    ("AmazonMWAA", "SchedulerHeartbeat"): {"Function": "Scheduler", "Environment": ENVIRONMENT},
    ("AmazonMWAA", "TriggerHeartbeat"): {"Function": "Triggerer", "Environment": ENVIRONMENT},
    ("AmazonMWAA", "ImportErrors"): {"Function": "DAG Processing", "Environment": ENVIRONMENT},
    ("AWS/MWAA", "ApproximateAgeOfOldestTask"): {"Environment": ENVIRONMENT},
}
"""Metrics and their dimensions as MWAA's guide lists them ("Apache Airflow environment metrics in CloudWatch", and
"Container, queue, and database metrics"): with others there is no data, and an alarm never rings."""

SIGNS_OF_LIFE = {"SchedulerHeartbeat", "TriggerHeartbeat"}
"""Metrics of which silence is the bad news."""

UNREPORTED = {
    # A round that fails is followed by the next at once; that there is none has an alarm.
    "call_details_watch"
}
"""DAGs whose failed runs nobody needs to hear of."""


def dimensions(metric: dict[str, Any]) -> dict[str, Any]:
    return {item["Name"]: item["Value"] for item in metric["Dimensions"]}


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_reaches_the_topic_and_says_what_to_do(name: str) -> None:
    alarm = ALARMS[name]
    allowed = statements_of("AlertsTopicPolicy")["AlarmsPublish"]["Condition"]["ArnLike"]["aws:SourceArn"]
    prefix = allowed["Fn::Sub"].rpartition(":alarm:")[2].removesuffix("*")
    assert alarm["AlarmName"]["Fn::Sub"].startswith(f"{prefix}airflow-"), "the topic's policy does not let it publish"
    assert alarm["AlarmActions"] == [{"Ref": "AlertsTopicArn"}]
    assert len(alarm["AlarmDescription"]) > 80


@pytest.mark.parametrize("name", SIMPLE)
def test_alarm_watches_a_metric_that_mwaa_publishes_and_knows_what_silence_means(name: str) -> None:
    alarm = SIMPLE[name]
    assert dimensions(alarm) == METRICS_OF_MWAA[alarm["Namespace"], alarm["MetricName"]]
    silent = alarm["MetricName"] in SIGNS_OF_LIFE
    assert alarm["TreatMissingData"] == ("breaching" if silent else "notBreaching")
    assert alarm["ComparisonOperator"].startswith("Less") is silent


def test_every_part_that_runs_the_pipelines_is_watched() -> None:
    assert {(alarm["Namespace"], alarm["MetricName"]) for alarm in SIMPLE.values()} == set(METRICS_OF_MWAA)


def test_update_of_the_environment_does_not_ring_at_once() -> None:
    for alarm in SIMPLE.values():
        if alarm["MetricName"] in SIGNS_OF_LIFE:
            assert alarm["Period"] * alarm["EvaluationPeriods"] >= 1200


def test_failed_runs_are_counted_by_airflow_and_those_that_were_reported_are_taken_off() -> None:
    metrics = {item["Id"]: item for item in ALARMS["UnreportedFailureAlarm"]["Metrics"]}
    expression = metrics.pop("excess")
    assert expression["Expression"] == 'SUM(METRICS("failed")) - FILL(SUM(METRICS("reported")), 0)'
    assert [item["Id"] for item in [expression, *metrics.values()] if item["ReturnData"]] == ["excess"]
    failed, reported = {}, {}
    for name, item in metrics.items():
        stat = item["MetricStat"]
        where = dimensions(stat["Metric"])
        assert stat["Period"] == 3600
        if name.startswith("failed_"):
            assert (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) == ("AmazonMWAA", "DAGDurationFailed")
            assert stat["Stat"] == "SampleCount", "its value is a duration"
            failed[where.pop("DAG")] = where
        else:
            assert name.startswith("reported_")
            assert (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) == (METRICS_NAMESPACE, "FailedRuns")
            assert stat["Stat"] == "Sum"
            reported[where.pop("Pipeline")] = where
    dags = {path.stem for path in (INFRA.parent / "dags").glob("*.py")}
    assert set(failed) == dags - UNREPORTED
    watched = {
        dimensions(alarm)["Pipeline"]
        for alarm in of_application("AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "FailedRuns"
    }
    assert set(reported) == watched
    assert all(where == {"Environment": ENVIRONMENT} for where in failed.values())
    assert all(where == {"Environment": {"Ref": "Environment"}} for where in reported.values())


def test_alarms_of_the_two_templates_have_different_names() -> None:
    theirs = {alarm["AlarmName"]["Fn::Sub"] for alarm in of_application("AWS::CloudWatch::Alarm").values()}
    ours = {alarm["AlarmName"]["Fn::Sub"] for alarm in ALARMS.values()}
    assert len(ours) == len(ALARMS)
    assert not ours & theirs
