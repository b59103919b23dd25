"""The alarms of the application template: they watch what exists, and somebody hears them."""

from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from airflow_ext.ids import METRICS_NAMESPACE
from include.delivery.due import Due
from include.delivery.models import LONGEST_PAUSE_SECONDS
from include.delivery.report import DeliveryCounts, metrics
from tests.packaging.template import ROOT, properties_of, resource, statements_of

ALARMS = properties_of("AWS::CloudWatch::Alarm")

PUBLISHERS = {
    "dex_trigger_archive": "tasks/dex_trigger_archive.py",
    "energy_auction": "tasks/energy_auction.py",
    "call_details_watch": "tasks/call_details_watch.py",
    "call_details_ingest": "tasks/call_details_ingest.py",
    "event_delivery": "tasks/event_delivery.py",
}
"""Modules of ``airflow_ext`` that publish a pipeline's metrics, beside what metrics.py publishes for all."""

DELIVERY_METRICS = metrics(Due((), 0, 0, 0.0), DeliveryCounts(attempts=1))
"""What the delivery publishes of its own; its names are in the domain."""

WATCHED = {
    "dex_trigger_archive": {"FailedRuns", "ScheduledRuns", "RunSeconds"},
    "energy_auction": {"FailedRuns", "ScheduledRuns", "RunSeconds"},
    # A round that fails is one that is missing, and the next one follows at once.
    "call_details_watch": {"ScheduledRuns"},
    # Without files it has no runs.
    "call_details_ingest": {"FailedRuns", "RunSeconds"},
    "event_delivery": {"FailedRuns", "ScheduledRuns", "RunSeconds", "OldestPendingSeconds", "DeliverySuccessRate"},
}
"""What must be noticed of each pipeline: that it failed, that it does not run, that a run takes too long."""

METRICS_OF_AWS = {
    ("AWS/Lambda", ("FunctionName",)): {"Errors", "Duration"},
    # Without a dimension: of all functions together.
    ("AWS/Lambda", ()): {"Throttles"},
    # Of a REST API, and of an HTTP API.
    ("AWS/ApiGateway", ("ApiName", "Stage")): {"5XXError"},
    ("AWS/ApiGateway", ("ApiId", "Stage")): {"4xx", "5xx"},
    ("AWS/DynamoDB", ("TableName",)): {"WriteThrottleEvents"},
    ("AWS/SNS", ("TopicName",)): {"NumberOfNotificationsFailed"},
    ("AWS/SQS", ("QueueName",)): {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
}
"""Metrics that AWS publishes, by namespace and dimensions: with others there is no data, and an alarm never rings."""

EVENTS = {"FailedRuns", "UndeliveredAlerts", "Errors", "Duration", "Throttles", "5XXError", "WriteThrottleEvents"}
EVENTS |= {
    "NumberOfNotificationsFailed",
    "ApproximateNumberOfMessagesVisible",
    "ApproximateAgeOfOldestMessage",
    "4xx",
    "5xx",
}
# No run, which has an alarm of its own; nothing was posted.
EVENTS |= {"OldestPendingSeconds", "DeliverySuccessRate", "RunSeconds"}
"""Metrics of which silence is good news. Of all others it is the bad news."""


def _dimensions(alarm: dict[str, Any]) -> dict[str, Any]:
    return {item["Name"]: item["Value"] for item in alarm.get("Dimensions", [])}


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_reaches_the_topic_and_says_what_to_do(name: str) -> None:
    alarm = ALARMS[name]
    allowed = statements_of("AlertsTopicPolicy")["AlarmsPublish"]["Condition"]["ArnLike"]["aws:SourceArn"]
    prefix = allowed["Fn::Sub"].rpartition(":alarm:")[2].removesuffix("*")
    assert prefix.startswith("pipelines-")
    assert {"Ref": "AlertsTopic"} in alarm["AlarmActions"]
    assert alarm["AlarmName"]["Fn::Sub"].startswith(prefix), "the topic's policy does not let it publish"
    assert len(alarm["AlarmDescription"]["Fn::Sub"]) > 80, "too short to say what happened and what to do"
    section = alarm["AlarmName"]["Fn::Sub"].removeprefix("pipelines-${Environment}-")
    assert alarm["AlarmDescription"]["Fn::Sub"].endswith(f" Runbook: ${{RunbookUrl}}#{section}")


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_knows_what_silence_means(name: str) -> None:
    alarm = ALARMS[name]
    expected = "notBreaching" if alarm["MetricName"] in EVENTS else "breaching"
    assert alarm["TreatMissingData"] == expected


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm["Namespace"] == METRICS_NAMESPACE])
def test_alarm_of_a_pipeline_watches_what_the_pipeline_publishes(name: str) -> None:
    alarm = ALARMS[name]
    dimensions = _dimensions(alarm)
    assert dimensions == {"Environment": {"Ref": "Environment"}, "Pipeline": dimensions["Pipeline"]}
    pipeline = dimensions["Pipeline"]
    assert (ROOT / "dags" / f"{pipeline}.py").is_file()
    assert alarm["AlarmName"]["Fn::Sub"].startswith(f"pipelines-${{Environment}}-{pipeline.replace('_', '-')}-")
    folder = ROOT / "plugins" / "airflow_ext"
    own = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(PUBLISHERS[pipeline])))
    assert "report.count(" in own, f"{pipeline} publishes nothing"
    if pipeline == "event_delivery" and alarm["MetricName"] in DELIVERY_METRICS:
        assert "metrics(" in own, "nothing publishes them"
        return
    published = own + (folder / "metrics.py").read_text(encoding="utf-8")
    assert f'"{alarm["MetricName"]}"' in published, f"nothing publishes what {name} watches"


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm["Namespace"] != METRICS_NAMESPACE])
def test_alarm_on_a_metric_of_aws_names_its_dimensions(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["MetricName"] in METRICS_OF_AWS[alarm["Namespace"], tuple(_dimensions(alarm))]


def test_each_pipeline_is_watched_for_failure_and_for_silence() -> None:
    assert set(WATCHED) == set(PUBLISHERS)
    for pipeline, expected in WATCHED.items():
        watched = {
            alarm["MetricName"]
            for alarm in ALARMS.values()
            if alarm["Namespace"] == METRICS_NAMESPACE and _dimensions(alarm)["Pipeline"] == pipeline
        }
        assert watched >= expected, pipeline


@pytest.fixture(scope="module")
def dagbag() -> DagBag:
    """Every DAG, for its limits."""
    return DagBag(dag_folder=str(ROOT / "dags"))


@pytest.mark.parametrize(
    ("name", "periods"), [("AuctionNoRunAlarm", 4), ("CallDetailsWatchNoRunAlarm", 8), ("DeliveryNoRunAlarm", 4)]
)
def test_silence_of_a_short_pipeline_is_noticed_after_some_runs(name: str, periods: int) -> None:
    alarm = resource(name)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (300, periods)


@pytest.mark.parametrize(
    ("name", "pipeline", "seconds"),
    [
        ("ArchiveSlowRunAlarm", "dex_trigger_archive", 3 * 3600),
        ("AuctionSlowRunAlarm", "energy_auction", 280),
        ("IngestSlowRunAlarm", "call_details_ingest", 2 * 3600),
        ("DeliverySlowRunAlarm", "event_delivery", 900),
    ],
)
def test_run_that_takes_long_for_its_slot_or_day_is_noticed_before_airflow_ends_it(
    name: str, pipeline: str, seconds: int, dagbag: DagBag
) -> None:
    alarm, limit = resource(name), dagbag.dags[pipeline].dagrun_timeout
    assert _dimensions(alarm)["Pipeline"] == pipeline
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("RunSeconds", "Maximum", seconds)
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    assert seconds < limit.total_seconds()


def _of_queue(name: str) -> list[dict[str, Any]]:
    """The alarms of a queue, in the order of the template."""
    dimensions = {"QueueName": {"Fn::GetAtt": f"{name}.QueueName"}}
    return [alarm for alarm in ALARMS.values() if _dimensions(alarm) == dimensions]


@pytest.mark.parametrize("name", ["CallDetailsDeadLetters", "EventDeadLetters"])
def test_dead_letters_are_noticed_at_once(name: str) -> None:
    alarm = _of_queue(name)[0]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("ApproximateNumberOfMessagesVisible", 1)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (300, 1)


def test_dead_letters_of_call_details_are_noticed_again_before_they_are_lost_however_often_they_were_looked_at() -> (
    None
):
    queue = resource("CallDetailsDeadLetters")
    _, old = _of_queue("CallDetailsDeadLetters")
    # SQS takes what was received three times out of the age of the oldest message, and the operations page receives.
    assert (old["MetricName"], old["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Maximum")
    assert (old["Threshold"], old["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    # Longer than somebody hides messages from others, so that one who looks does not begin it anew.
    assert old["Period"] == 3600
    assert old["Period"] * old["EvaluationPeriods"] <= 7 * 86400, "CloudWatch looks back no further"
    assert old["Period"] * old["EvaluationPeriods"] < queue["MessageRetentionPeriod"] / 2
    assert queue["MessageRetentionPeriod"] == 14 * 86400
    # An event stays in its table, failed: its dead letter is only a note.
    assert len(_of_queue("EventDeadLetters")) == 1


def test_wake_ups_that_nobody_takes_are_noticed_before_they_are_gone() -> None:
    (oldest,) = _of_queue("EventQueue")
    assert oldest["MetricName"] == "ApproximateAgeOfOldestMessage"
    assert (oldest["Statistic"], oldest["ComparisonOperator"]) == ("Maximum", "GreaterThanThreshold")
    assert oldest["Threshold"] + oldest["Period"] < resource("EventQueue")["MessageRetentionPeriod"]


def test_delivery_that_fails_mostly_or_late_is_noticed() -> None:
    rate, oldest = resource("DeliveryFailureRateAlarm"), resource("DeliveryOldestPendingAlarm")
    assert (rate["Statistic"], rate["ComparisonOperator"]) == ("Average", "LessThanThreshold")
    assert 0 < rate["Threshold"] < 1
    assert (oldest["Statistic"], oldest["ComparisonOperator"]) == ("Maximum", "GreaterThanThreshold")
    # A single receiver that is down for a moment wakes nobody.
    assert oldest["Threshold"] >= LONGEST_PAUSE_SECONDS


def test_errors_of_each_function_are_watched_but_of_the_one_whose_errors_are_answers() -> None:
    watched = {
        _dimensions(alarm)["FunctionName"]["Ref"] for alarm in ALARMS.values() if alarm["MetricName"] == "Errors"
    }
    assert watched == set(properties_of("AWS::Lambda::Function")) - {"AuctionOrderFunction"}


def test_slowness_of_each_function_is_watched() -> None:
    watched = {
        _dimensions(alarm)["FunctionName"]["Ref"] for alarm in ALARMS.values() if alarm["MetricName"] == "Duration"
    }
    assert watched == set(properties_of("AWS::Lambda::Function"))


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm["MetricName"] == "Duration"])
def test_slow_functions_are_noticed_before_they_are_cut_off(name: str) -> None:
    function = resource(_dimensions(ALARMS[name])["FunctionName"]["Ref"])
    assert ALARMS[name]["Threshold"] <= 0.8 * function["Timeout"] * 1000, "in milliseconds"


def test_alarms_may_use_the_key_of_the_topic() -> None:
    for name, topic in properties_of("AWS::SNS::Topic").items():
        key = statements_of(topic["KmsMasterKeyId"]["Ref"]).values()
        assert any(
            statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
            and set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
            for statement in key
        ), f"alarms could not publish to {name}"
