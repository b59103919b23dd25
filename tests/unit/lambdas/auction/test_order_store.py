from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas.auction.order import WRITES, Order, OrderStore, s3_client
from tests.worlds.s3 import FakeS3, s3_error

BUCKET = "order-results"
ORDER = Order("abc", date(2026, 3, 8), b'{"status": "accepted"}')
FUNCTION_SECONDS = 30


def keep(s3: FakeS3, order: Order = ORDER) -> bool:
    return OrderStore(s3, BUCKET).save(order)


def answers(*codes: str | None) -> Callable[[dict[str, Any]], None]:
    """S3 answers these errors, one a call; with None, and after the last, it does what it is asked."""
    waiting = list(codes)

    def hook(request: dict[str, Any]) -> None:
        if waiting and (code := waiting.pop(0)):
            raise s3_error(code)

    return hook


def test_order_is_written_as_encrypted_json() -> None:
    s3 = FakeS3(BUCKET)
    assert keep(s3) is True
    (version,) = s3.objects[ORDER.key]
    assert version.body == ORDER.body
    assert version.arguments["ContentType"] == "application/json"
    assert version.arguments["ServerSideEncryption"] == "AES256"


def test_second_call_finds_the_order_and_writes_nothing() -> None:
    s3 = FakeS3(BUCKET)
    keep(s3)
    assert keep(s3, Order(ORDER.id, ORDER.date, b'{"status": "accepted", "power": 2}')) is False
    assert s3.bodies(ORDER.key) == [ORDER.body]


def test_write_that_another_call_is_busy_with_is_tried_again() -> None:
    s3 = FakeS3(BUCKET)
    s3.before["PutObject"] = answers("ConditionalRequestConflict")
    assert keep(s3) is True
    assert s3.bodies(ORDER.key) == [ORDER.body]


def test_order_that_another_call_wrote_in_the_meantime_is_there() -> None:
    s3 = FakeS3(BUCKET)
    other = FakeS3(BUCKET)
    keep(other)

    def lose_the_race(request: dict[str, Any]) -> None:
        s3.objects = other.objects
        del s3.before["PutObject"]
        raise s3_error("ConditionalRequestConflict")

    s3.before["PutObject"] = lose_the_race
    assert keep(s3) is False
    assert s3.bodies(ORDER.key) == [ORDER.body]


@pytest.mark.parametrize(
    ("codes", "calls"),
    [
        (("ConditionalRequestConflict",) * 3, 3),
        (("ConditionalRequestConflict", "SlowDown"), 2),
        (("AccessDenied",), 1),
        (("InternalError",), 1),
    ],
    ids=["always busy", "busy, then slow", "denied", "broken"],
)
def test_what_the_bucket_refuses_is_an_error_and_not_a_stored_order(codes: tuple[str, ...], calls: int) -> None:
    s3 = FakeS3(BUCKET)
    s3.before["PutObject"] = answers(*codes)
    with pytest.raises(ClientError, match=codes[-1]):
        keep(s3)
    assert s3.objects == {}
    assert s3.calls == {"PutObject": calls}


def test_client_gives_up_before_the_function_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    config: Any = s3_client().meta.config
    attempts = config.retries["total_max_attempts"]
    # botocore waits up to a second before the second attempt, and twice as long before each further one.
    waiting = 2 ** (attempts - 1) - 1
    assert WRITES * (attempts * (config.connect_timeout + config.read_timeout) + waiting) < FUNCTION_SECONDS
