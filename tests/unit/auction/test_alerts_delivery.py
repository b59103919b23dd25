import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.alerts import Alert, Send, Severity
from include.auction.alerts import ATTEMPTS, MAX_FAILURES_IN_A_ROW, DeliveryRecord, deliver
from tests.worlds.s3 import FakeS3, raising, s3_error

KEY = "runs/run/alerts.json"
AT_ONCE = {"slack": 1, "sns": 4}


class Channel:
    """Takes alerts, or refuses those of which ``refuses`` says so."""

    def __init__(self, refuses: Callable[[str], bool] = lambda order: False) -> None:
        self.taken: list[str] = []
        self.attempts: Counter[str] = Counter()
        self._refuses = refuses
        self._lock = threading.Lock()

    def __call__(self, alert: Alert) -> None:
        with self._lock:
            self.attempts[alert.headline] += 1
            if self._refuses(alert.headline):
                raise ConnectionError("down")
            self.taken.append(alert.headline)


def down(order: str) -> bool:
    return True


def record(s3: FakeS3, **options: float) -> DeliveryRecord:
    return DeliveryRecord(s3, "archive", KEY, **options)


def send(
    s3: FakeS3, count: int, clock: Callable[[], float] = lambda: 0.0, save_every: float = 1.0, **channels: Send
) -> int:
    """Deliver alerts ``0`` to ``count`` through the channels, without pauses."""
    alerts = {f"{n}/rejected": Alert(Severity.WARNING, "p", "r", str(n)) for n in range(count)}
    known = record(s3, save_every=save_every)
    return deliver(alerts, channels, known, at_once=AT_ONCE, seconds=40, sleep=lambda seconds: None, clock=clock)


def test_each_alert_goes_once_through_each_channel() -> None:
    s3, slack, sns = FakeS3(), Channel(), Channel()
    assert send(s3, 50, slack=slack, sns=sns) == 0
    expected = sorted(map(str, range(50)))
    assert sorted(slack.taken) == sorted(sns.taken) == expected
    assert sorted(record(s3).channels_of("7/rejected")) == ["slack", "sns"]


def test_what_was_delivered_is_not_delivered_again() -> None:
    s3, slack, sns = FakeS3(), Channel(), Channel()
    send(s3, 3, slack=slack, sns=sns)
    assert send(s3, 5, slack=slack, sns=sns) == 0
    assert sorted(slack.taken) == sorted(sns.taken) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("broken", ["slack", "sns"])
def test_channels_do_not_wait_for_each_other(broken: str) -> None:
    s3, good = FakeS3(), Channel()
    (working,) = {"slack", "sns"} - {broken}
    assert send(s3, 20, **{broken: Channel(down), working: good}) == 20
    assert len(good.taken) == 20
    assert record(s3).channels_of("0/rejected") == [working]


def test_channel_that_works_again_gets_what_it_missed() -> None:
    s3, sns = FakeS3(), Channel()
    send(s3, 3, slack=Channel(down), sns=sns)
    slack = Channel()
    assert send(s3, 3, slack=slack, sns=sns) == 0
    assert (sorted(slack.taken), sorted(sns.taken)) == (["0", "1", "2"], ["0", "1", "2"])


def test_without_alerts_or_channels_nothing_is_written() -> None:
    s3 = FakeS3()
    assert send(s3, 0, slack=Channel()) == 0
    assert send(s3, 3) == 0
    assert s3.keys() == []


def test_alert_is_tried_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    left = Counter({"1": ATTEMPTS - 1, "2": ATTEMPTS})
    pauses: list[float] = []

    def refuses(order: str) -> bool:
        left[order] -= 1
        return left[order] >= 0

    slack = Channel(refuses)
    alerts = {order: Alert(Severity.ERROR, "p", "r", order) for order in ("0", "1", "2")}
    channels = {"slack": slack}
    assert deliver(alerts, channels, record(FakeS3()), at_once=AT_ONCE, seconds=40, sleep=pauses.append) == 1
    assert slack.attempts == {"0": 1, "1": ATTEMPTS, "2": ATTEMPTS}
    assert sorted(slack.taken) == ["0", "1"]
    assert pauses == 2 * [1.0, 2.0]
    assert "not delivered through slack: ConnectionError" in caplog.text
    assert "down" not in caplog.text, "what others raise may quote a secret"
    assert "messages about orders that were not delivered: 1" in caplog.text


def test_channel_that_is_down_is_not_tried_for_every_alert() -> None:
    sns = Channel(down)
    assert send(FakeS3(), 600, sns=sns) == 600
    # Each worker may be at an alert when the last one that counts has failed.
    assert len(sns.attempts) < MAX_FAILURES_IN_A_ROW + AT_ONCE["sns"]


def test_channel_that_refuses_now_and_then_is_not_down() -> None:
    slack = Channel(lambda order: bool(int(order) % MAX_FAILURES_IN_A_ROW))
    assert send(FakeS3(), 50, slack=slack) == 40
    assert len(slack.taken) == 10


def test_time_that_is_up_ends_the_delivery() -> None:
    ticks = iter(range(1000))
    slack = Channel()
    undelivered = send(FakeS3(), 600, clock=lambda: float(next(ticks)), slack=slack)
    assert 0 < len(slack.taken) < 600
    assert undelivered == 600 - len(slack.taken)


@given(st.integers(0, 30), st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_however_often_it_is_repeated_no_alert_is_delivered_twice(
    count: int, no_slack: set[int], no_sns: set[int]
) -> None:
    s3 = FakeS3()
    slack, sns = (Channel(lambda order, bad=bad: int(order) in bad) for bad in (no_slack, no_sns))
    for _ in range(2):
        undelivered = send(s3, count, slack=slack, sns=sns)
    assert undelivered == 2 * count - len(slack.taken) - len(sns.taken)
    for channel, bad in ((slack, no_slack), (sns, no_sns)):
        assert len(set(channel.taken)) == len(channel.taken)
        assert set(channel.taken) <= {str(n) for n in range(count) if n not in bad}


def test_deliveries_are_recorded_while_alerts_are_under_way() -> None:
    s3 = FakeS3()

    def killed(order: str) -> bool:
        if len(slack.taken) >= 3:
            raise KeyboardInterrupt
        return False

    slack = Channel(killed)
    with pytest.raises(KeyboardInterrupt):
        send(s3, 20, save_every=0.0, slack=slack)
    again = Channel()
    send(s3, 20, slack=again)
    assert sorted(slack.taken + again.taken) == sorted(map(str, range(20)))


def test_record_that_cannot_be_written_stops_no_alert(caplog: pytest.LogCaptureFixture) -> None:
    s3 = FakeS3()
    s3.before["PutObject"] = raising(s3_error("SlowDown"))
    slack = Channel()
    assert send(s3, 3, slack=slack) == 0
    assert len(slack.taken) == 3
    assert "delivered alerts were not recorded" in caplog.text


@pytest.mark.parametrize("channel", AT_ONCE)
def test_no_more_alerts_under_way_than_a_channel_takes(channel: str) -> None:
    under_way, most, lock = 0, 0, threading.Lock()
    # None is answered before as many are under way as may be: fewer at once would break the barrier.
    meeting = threading.Barrier(AT_ONCE[channel], timeout=60)

    def take(alert: Alert) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        meeting.wait()
        with lock:
            under_way -= 1

    assert send(FakeS3(), 8, **{channel: take}) == 0
    assert most == AT_ONCE[channel]


def test_channel_that_does_not_answer_is_not_waited_for() -> None:
    known, sns, answer, answered = record(FakeS3()), Channel(), threading.Event(), threading.Event()

    class Channels(dict[str, Send]):
        def __iter__(self) -> Iterator[str]:
            yield "slack"
            yield "sns"
            # The time to wait begins when the other channel is done, however slow this machine is.
            while not known.channels_of("0/rejected"):
                time.sleep(0.001)

    def stuck(alert: Alert) -> None:
        answer.wait(60)
        answered.set()

    alerts = {"0/rejected": Alert(Severity.WARNING, "p", "r", "0")}
    channels = Channels(slack=stuck, sns=sns)
    assert deliver(alerts, channels, known, at_once=AT_ONCE, seconds=1) == 1
    assert not answered.is_set(), "the run waits for a channel"
    answer.set()
    assert sns.taken == ["0"]


@pytest.mark.parametrize("body", [b"{not json", b"[1]", b"5", b'{"delivered": 5}', b'{"delivered": {"0/rejected": 5}}'])
def test_damaged_record_stops_no_alert(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    s3, slack = FakeS3(), Channel()
    s3.put_object(Bucket="archive", Key=KEY, Body=body)
    assert send(s3, 2, slack=slack) == 0
    assert slack.taken == ["0", "1"]
    assert "delivered alerts cannot be read and may be repeated" in caplog.text
    assert record(s3).channels_of("1/rejected") == ["slack"]


def test_record_that_cannot_be_read_or_written_stops_no_alert() -> None:
    fail = raising(s3_error("AccessDenied"))
    s3, slack = FakeS3(), Channel()
    s3.before |= {"GetObject": fail, "PutObject": fail}
    assert send(s3, 2, slack=slack) == 0
    assert slack.taken == ["0", "1"]
