"""Alerts that a channel did not take are sent later, once, and in bounds."""

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from include.alerts import Alert, Failure, Severity
from include.outbox import MAX_AGE_SECONDS, MOST_AT_ONCE, MOST_WAITING, PREFIX, SECONDS, Outbox
from tests.worlds.call_details import FakeTime
from tests.worlds.s3 import FakeS3, raising, s3_error, unreachable

ALERT = Alert(
    Severity.ERROR,
    "dex_trigger_archive",
    "run 1",
    "2 of 120 clients failed",
    ["manifest: s3://archive/m.json"],
    [Failure("client 1042 (Łódź)", "503", "archive_client", 3, "http://airflow.test/log")],
    "docs/RUNBOOK.md#dex-trigger-archive-failed-run",
)


class Post:
    """The outbox with a clock, and a channel that can be down."""

    def __init__(self) -> None:
        self.s3, self.time = FakeS3("results"), FakeTime()
        self.box = Outbox(lambda: self.s3, "results", clock=self.time)
        self.sent: list[Alert] = []
        self.down = False

    def deliver(self, alert: Alert) -> None:
        if self.down:
            raise ConnectionError("no way")
        self.sent.append(alert)

    def send(self) -> int:
        return self.box.send(lambda: {"slack": self.deliver})


@pytest.fixture
def post() -> Post:
    return Post()


def numbered(number: int) -> Alert:
    return Alert(Severity.WARNING, "energy_auction", f"run {number}", "order was rejected")


def test_an_alert_arrives_as_it_was_once_its_minute_has_passed(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    assert post.box.put("slack", ALERT) == [ALERT]
    assert caplog.text == ""
    assert post.send() == 1
    assert post.sent == []
    post.time.now += 60
    assert post.send() == 0
    assert [(sent.subject, sent.text) for sent in post.sent] == [(ALERT.subject, ALERT.text)]
    post.time.now += 3600
    assert post.box.send(lambda: pytest.fail("no channel is opened for nothing")) == 0
    assert len(post.sent) == 1


def test_the_same_alert_waits_once_for_each_channel(post: Post) -> None:
    for channel in ("slack", "sns", "slack"):
        post.box.put(channel, ALERT)
    assert len(post.s3.present(PREFIX)) == 2
    post.time.now += 60
    assert post.box.send(lambda: {"sns": post.deliver}) == 0, "nobody waits for a Slack that is not configured"
    assert len(post.s3.present(PREFIX)) == 1, "which is no attempt"
    assert post.send() == 0
    assert len(post.sent) == 2


def test_a_channel_that_is_still_down_is_asked_once_a_run_and_less_and_less_often(post: Post) -> None:
    post.box.put("slack", numbered(1), numbered(2))
    post.down, asked = True, []

    def refuse(alert: Alert) -> None:
        asked.append((post.time.now - began) / 60)
        post.deliver(alert)

    began = post.time.now
    for _ in range(130):
        post.time.now += 60
        assert post.box.send(lambda: {"slack": refuse}) == 2
    assert asked == [1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 123, 124], "each alert of the two"
    post.down = False
    post.time.now += 3600
    assert post.send() == 0
    assert {alert.run_id for alert in post.sent} == {"run 1", "run 2"}


def test_of_two_runs_at_once_one_sends(post: Post) -> None:
    post.box.put("slack", ALERT)
    post.time.now += 60
    other = Outbox(lambda: post.s3, "results", clock=post.time)

    def before(request: dict[str, object]) -> None:
        if "IfMatch" in request:
            del post.s3.before["PutObject"]
            other.send(lambda: {"slack": post.deliver})

    post.s3.before["PutObject"] = before
    post.send()
    assert len(post.sent) == 1


def test_a_run_sends_a_few_and_the_next_ones_the_rest(post: Post) -> None:
    post.box.put("slack", *map(numbered, range(MOST_AT_ONCE + 5)))
    post.time.now += 60
    assert post.send() == 5
    assert post.send() == 0
    assert len(post.sent) == MOST_AT_ONCE + 5


def test_a_slow_channel_does_not_hold_the_run_up(post: Post) -> None:
    post.box.put("slack", *map(numbered, range(5)))
    post.time.now += 60

    def deliver(alert: Alert) -> None:
        post.deliver(alert)
        post.time.now += SECONDS / 2

    assert post.box.send(lambda: {"slack": deliver}) == 3
    assert len(post.sent) == 2


def test_what_is_too_much_or_too_old_is_given_up_in_the_log(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    assert len(post.box.put("slack", *map(numbered, range(MOST_WAITING + 2)))) == MOST_WAITING
    assert "2 alerts that slack did not take are lost" in caplog.text
    post.time.now += MAX_AGE_SECONDS
    post.send()
    assert post.s3.present(PREFIX) == []
    assert post.sent == []
    assert "given up" in caplog.text


def test_channel_that_is_down_for_long_leaves_the_other_its_room(post: Post) -> None:
    post.box.put("slack", *map(numbered, range(MOST_WAITING)))
    assert post.box.put("sns", ALERT) == [ALERT]


def test_many_alerts_for_one_channel_do_not_keep_those_for_the_other_waiting(post: Post) -> None:
    """Neither those that are to be sent, which are more than a run sends, nor those whose next attempt is not due."""
    post.box.put("sns", numbered(1), numbered(2))
    post.box.put("slack", *map(numbered, range(MOST_AT_ONCE)))
    post.time.now += 60
    sns: list[Alert] = []
    post.box.send(lambda: {"slack": post.deliver, "sns": sns.append})
    assert len(sns) == 2

    post.box.put("sns", numbered(3))
    post.time.now += 60
    post.box.put("slack", *map(numbered, range(100, 200)))

    def read(request: object) -> None:
        post.time.now += SECONDS / 20

    post.s3.before["GetObject"] = read
    post.box.send(lambda: {"slack": post.deliver, "sns": sns.append})
    assert len(sns) == 3


@pytest.mark.parametrize(
    "body", [b"{not json", b"[]", b"{}", b'{"alert": {}, "attempts": 1, "put_at": 2e9, "due_at": 0}']
)
def test_document_that_is_no_alert_keeps_no_other_waiting(
    post: Post, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    post.box.put("slack", ALERT)
    post.s3.put_object(Bucket="results", Key=f"{PREFIX}slack/0.json", Body=body)
    post.time.now += 60
    post.send()
    assert [alert.run_id for alert in post.sent] == [ALERT.run_id]
    assert f"{PREFIX}slack/0.json holds no alert" in caplog.text


@pytest.mark.parametrize("trouble", [unreachable, lambda: s3_error("AccessDenied")])
@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject", "PutObject", "DeleteObject"])
def test_an_s3_that_fails_never_fails_the_run(
    post: Post, operation: str, trouble: Callable[[], ClientError], caplog: pytest.LogCaptureFixture
) -> None:
    post.box.put("slack", ALERT)
    post.time.now += 60
    post.s3.before[operation] = raising(trouble())
    kept = post.box.put("slack", numbered(1))
    assert kept == ([] if operation in ("ListObjectsV2", "PutObject") else [numbered(1)])
    post.send()
    assert "alerts that" in caplog.text
