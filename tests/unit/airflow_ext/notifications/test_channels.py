import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk import BaseHook
from botocore.exceptions import EndpointConnectionError

from airflow_ext.ids import SLACK_CONNECTION
from airflow_ext.notifications.channels import open_channels, send_alerts
from airflow_ext.outside import outside
from include.alerts import Alert, Failure, Severity
from include.errors import ApiRefusedError, NoResponseError
from tests.worlds.alerts import SLACK_PATH, TOPIC, Wire
from tests.worlds.pipeline import PLANTED, leaks

ALERT = Alert(
    Severity.ERROR,
    "dex_trigger_archive",
    "run {{ 7 * 7 }}",
    "2 clients failed {% raw",
    ["manifest: s3://b/k"],
    [Failure("client 7 (A&B <Grid>)", "answered {{ var.value.settings }}", "archive_client", 3)],
)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    wire.attach(monkeypatch)
    return wire


def send(alert: Alert = ALERT, topic_arn: str | None = TOPIC) -> list[str]:
    (took,) = send_alerts([alert], {}, topic_arn=topic_arn)
    return took


def test_alert_goes_to_topic_and_slack(wire: Wire) -> None:
    assert send() == ["slack", "sns"]
    (message,) = wire.sns
    assert message["TargetArn"] == TOPIC
    assert message["Subject"] == ALERT.subject
    assert json.loads(message["Message"]) == {"default": ALERT.text}
    attributes = {value for name, value in message.items() if name.startswith("MessageAttributes")}
    assert {"pipeline", "dex_trigger_archive", "severity", "ERROR"} <= attributes
    assert len(wire.slack) == 1
    assert wire.slack_urls == [f"https://slack.test/services/{SLACK_PATH}"]


def test_topic_is_waited_for_no_longer_than_a_callback_can_wait(wire: Wire) -> None:
    send()
    assert wire.sns_timeouts == [(5, 10)]


def test_log_says_which_run_the_alert_is_about(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    send()
    assert f"about run {ALERT.run_id} delivered through: slack, sns" in caplog.text


def test_braces_of_other_systems_are_sent_and_not_rendered(wire: Wire) -> None:
    send()
    for text in (wire.sns[0]["Message"], wire.slack[0]["text"]):
        assert "run {{ 7 * 7 }}" in text
        assert "answered {{ var.value.settings }}" in text
        assert "{% raw" in text


def test_slack_markup_is_escaped(wire: Wire) -> None:
    send()
    assert "client 7 (A&amp;B &lt;Grid&gt;)" in wire.slack[0]["text"]
    assert "client 7 (A&B <Grid>)" in wire.sns[0]["Message"]


def test_slack_gets_it_when_sns_is_down(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.sns_is_down = True
    assert send() == ["slack"]
    assert wire.sns_attempts == 2, "a callback may be waiting: no more than one repetition"
    assert len(wire.slack) == 1
    assert "not delivered through sns" in caplog.text


def test_sns_gets_it_when_slack_is_down(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.slack_is_down = True
    assert send() == ["sns"]
    assert len(wire.sns) == 1
    assert "not delivered through slack" in caplog.text


def test_channel_that_refuses_an_alert_is_not_given_the_next_which_wait_once_the_others_are_sent(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Each could hold the run up for ten seconds: some hundred files that share a run may have an alert each."""
    wire.slack_is_down = True
    kept: list[Any] = []
    alerts = [replace(ALERT, run_id=f"run {number}") for number in range(3)]
    taken = send_alerts(
        alerts, {}, topic_arn=TOPIC, keep=lambda channel, *left: kept.append((channel, list(left), len(wire.sns)))
    )
    assert taken == [["sns"]] * 3
    assert kept == [("slack", alerts, 3)]
    assert caplog.text.count("not delivered through slack") == 1


def test_both_down_is_logged_and_nothing_raised(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wire.sns_is_down = wire.slack_is_down = True
    assert send() == []
    assert "delivered through: no channel" in caplog.text


def test_slack_that_nobody_configured_is_quiet(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, airflow_database: None
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_ALERTS")
    assert send() == ["sns"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("value", ['{"conn_type": "slackwebhook"}', "{}"])
def test_slack_that_has_no_value_yet_is_quiet(
    value: str, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", value)
    assert send() == ["sns"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_malformed_slack_connection_does_not_stop_the_topic(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", f"{{not json {PLANTED}")
    assert send() == ["sns"]
    assert "slack_alerts" in caplog.text
    assert leaks(caplog.text, PLANTED) == []


def test_secrets_store_that_breaks_is_reported_and_does_not_stop_the_topic(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = BaseHook.get_connection

    def broken(*arguments: Any) -> Any:
        if arguments[-1] == SLACK_CONNECTION:
            raise RuntimeError(f"the store broke at {PLANTED}")
        return real(arguments[-1])

    monkeypatch.setattr(BaseHook, "get_connection", broken)
    assert send() == ["sns"]
    assert "not delivered through slack: SettingsError: connection 'slack_alerts' cannot be read" in caplog.text
    assert leaks(caplog.text, PLANTED) == []


def test_unknown_topic_leaves_slack(wire: Wire) -> None:
    assert send(topic_arn=None) == ["slack"]
    assert wire.sns == []


def test_webhook_address_is_not_logged(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    send()
    wire.slack_is_down = True
    send()
    assert leaks(caplog.text, PLANTED) == []


def test_many_alerts_look_their_connections_up_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = open_channels({}, topic_arn=TOPIC)
    for conn_id in ("AWS_DEFAULT", "SLACK_ALERTS"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id}")
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            for send_through in channels.values():
                pool.submit(send_through, replace(ALERT, headline=f"order {number} failed"))
    expected = sorted(f"[ERROR] dex_trigger_archive: order {number} failed" for number in range(20))
    assert sorted(message["Subject"] for message in wire.sns) == expected
    assert len({post["text"] for post in wire.slack}) == len(wire.slack) == 20


def test_channel_that_cannot_be_opened_refuses_and_the_other_works(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"region_name": "us-east-1", "endpoint_url": "no address"}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    channels = open_channels({}, topic_arn=TOPIC)
    assert list(channels) == ["slack", "sns"]
    with pytest.raises(ValueError, match="Invalid endpoint"):
        channels["sns"](ALERT)
    assert send() == ["slack"]


def test_longest_subject_is_cut(wire: Wire) -> None:
    send(Alert(Severity.WARNING, "p", "r", "ü" * 500))
    assert len(wire.sns[0]["Subject"]) == 99


def test_sender_that_repeats_by_itself_has_one_attempt_at_a_time(wire: Wire) -> None:
    """SNS may have taken a message whose confirmation is late."""
    wire.sns_is_down = True
    with pytest.raises(EndpointConnectionError):
        open_channels({}, topic_arn=TOPIC, attempts=1)["sns"](ALERT)
    assert wire.sns_attempts == 1


@pytest.fixture
def pauses() -> Iterator[list[float]]:
    """Seconds that Slack is waited for, which pass at once."""
    pauses: list[float] = []
    with outside.replaced(sleep=pauses.append):
        yield pauses


def test_slack_is_given_the_time_that_it_asks_for(wire: Wire, pauses: list[float]) -> None:
    wire.slack_retry_after = ["1", "3", "2.0", "4, 2"]
    open_channels({}, topic_arn=None, seconds=30)["slack"](ALERT)
    assert [int(pause) for pause in pauses] == [1, 3, 2, 4]
    assert len(wire.slack) == 1


@pytest.mark.parametrize(
    ("host", "password"),
    [
        ("https://slack.test/services", f"{SLACK_PATH}\nX: 1"),
        ("https://slack.test/services", f"{SLACK_PATH}\x00"),
        ("https://slack.test/services", f"\t{SLACK_PATH}\x7f/x"),
        ("https://[::1/services", SLACK_PATH),
        ("https://slack.test:x/services", SLACK_PATH),
        ("https://slack.test:99999/services", SLACK_PATH),
        ("https://", SLACK_PATH),
        ("https://me@slack.test/services", SLACK_PATH),
        ("ftp://slack.test/services", SLACK_PATH),
        (None, f"htps://slack.test/services/{SLACK_PATH}"),
        (None, f"://slack.test/services/{SLACK_PATH}"),
    ],
)
def test_malformed_slack_url_is_refused_before_anything_can_log_it(
    host: str | None,
    password: str,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    value = {"conn_type": "slackwebhook", "host": host, "password": password}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(value))
    assert send() == ["sns"]
    assert "SettingsError: connection 'slack_alerts': the URL that host and password make" in caplog.text
    printed = capfd.readouterr()
    assert leaks(f"{caplog.text}{printed.out}{printed.err}", PLANTED) == []
    assert wire.slack == []


@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_line_break_at_the_end_of_slack_s_secret_is_dropped(
    break_: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"conn_type": "slackwebhook", "host": "https://slack.test/services", "password": f"{SLACK_PATH}{break_}"}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(value))
    assert send() == ["slack", "sns"]
    assert wire.slack_urls == [f"https://slack.test/services/{SLACK_PATH}"]


def test_slack_s_answer_is_reported_by_its_status_alone(
    wire: Wire, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.slack_refusal = (404, f"no_service {SLACK_PATH}")
    assert send() == ["sns"]
    assert "404" in caplog.text
    assert "no_service" not in caplog.text
    assert pauses == [], "only who is asked to wait sends again"
    assert leaks(caplog.text, PLANTED) == []


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"ok", ["slack", "sns"]),
        (b"", ["slack", "sns"]),
        (b'{"success": true}', ["slack", "sns"]),
        (f"\n<!DOCTYPE html><title>Log in</title>{SLACK_PATH}".encode(), ["sns"]),
    ],
    ids=["Slack", "nothing", "another product", "page"],
)
def test_page_is_no_answer_of_slack(says: bytes, told: list[str], wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """As where a proxy redirects to its login: the library follows, and the message is lost."""
    caplog.set_level(logging.DEBUG)
    wire.slack_says = says
    assert send() == told
    assert ("a page came in place of Slack's answer" in caplog.text) == ("slack" not in told)
    assert leaks(caplog.text, PLANTED) == []


def test_slack_that_cannot_be_reached_is_reported_with_the_reason(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wire.slack_is_down = True
    assert send() == ["sns"]
    assert "NoResponseError: Slack did not answer: name not known" in caplog.text
    assert leaks(caplog.text, PLANTED) == []


def test_slack_that_does_not_answer_is_given_up_however_long_its_library_waits(wire: Wire) -> None:
    """As one whose addresses a firewall cuts off: the library's time-out is of each."""
    wire.slack_waits_for = threading.Event()
    with pytest.raises(NoResponseError, match="Slack did not answer within 0 s"):
        open_channels({}, topic_arn=None, seconds=-5)["slack"](ALERT)
    assert not wire.slack_waits_for.is_set()
    wire.slack_waits_for.set()


@pytest.mark.parametrize("asked", ["30", "3600", "soon", "-1"])
def test_slack_that_asks_for_more_time_than_there_is_refuses(asked: str, wire: Wire, pauses: list[float]) -> None:
    wire.slack_retry_after = [asked]
    with pytest.raises(ApiRefusedError, match="Slack answered 429"):
        open_channels({}, topic_arn=None, seconds=30)["slack"](ALERT)
    assert (pauses, wire.slack) == ([], [])
