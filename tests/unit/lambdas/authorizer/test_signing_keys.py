import pytest
from botocore.exceptions import EndpointConnectionError

from lambdas.authorizer.signing_keys import (
    MAX_AGE_SECONDS,
    MAX_OUTAGE_SECONDS,
    MIN_AGE_SECONDS,
    MIN_KEY_BYTES,
    RETRY_SECONDS,
    KeysUnavailableError,
    SigningKeys,
    secrets_client,
)
from tests.worlds.tokens import FakeSecret, secrets_manager_error

FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64
FUNCTION_SECONDS = 10
STAGES = 2


THROTTLED = secrets_manager_error("ThrottlingException")


class Clock:
    def __init__(self) -> None:
        self.now = 1_772_443_800.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keys_of(secret: FakeSecret, clock: Clock, secret_id: str = "orders-api/jwt") -> SigningKeys:
    return SigningKeys(secret, secret_id, clock=clock)


def test_current_and_previous_key_are_read_once_and_kept(clock: Clock) -> None:
    secret = FakeSecret(SECOND, FIRST)
    keys = keys_of(secret, clock)
    assert secret.reads == {}
    for _ in range(10):
        assert keys.kept() == (SECOND, FIRST)
        clock.now += MAX_AGE_SECONDS / 10
    assert secret.reads == {"AWSCURRENT": 1, "AWSPREVIOUS": 1}


def test_secret_that_was_never_rotated_has_one_key(clock: Clock) -> None:
    assert keys_of(FakeSecret(FIRST), clock).kept() == (FIRST,)


@pytest.mark.parametrize(
    "secret",
    [FIRST, f"{FIRST}\n", f"{FIRST}\r\n", f'{{"secret": "{FIRST}"}}', f'{{"secret": "{FIRST}\\n", "more": 1}}\n'],
    ids=["text", "line break", "Windows line break", "JSON", "JSON with line breaks"],
)
def test_key_is_the_text_or_the_field_secret_without_a_line_break_at_the_end(secret: str, clock: Clock) -> None:
    assert keys_of(FakeSecret(secret), clock).kept() == (FIRST,)


@pytest.mark.parametrize("secret", ['{"Secret": "' + FIRST + '"}', '{"secret": 1234567890123456}', '{"secret": null}'])
def test_json_object_without_a_text_named_secret_is_no_key(secret: str, clock: Clock) -> None:
    with pytest.raises(KeysUnavailableError, match=r"^secret \S+ .* has no key of at least 16 bytes: put one"):
        keys_of(FakeSecret(secret), clock).kept()


def test_key_that_was_rotated_out_twice_dies_within_five_minutes(clock: Clock) -> None:
    secret = FakeSecret(FIRST)
    keys = keys_of(secret, clock)
    assert keys.kept() == (FIRST,)
    secret.rotate(SECOND)
    secret.rotate(THIRD)
    clock.now += MAX_AGE_SECONDS
    assert keys.kept() == (FIRST,)
    clock.now += 0.1
    assert keys.kept() == (THIRD, SECOND)


def test_rotation_is_seen_at_once_and_read_at_most_once_a_second(clock: Clock) -> None:
    secret = FakeSecret(FIRST)
    keys = keys_of(secret, clock)
    keys.kept()
    secret.rotate(SECOND)
    assert keys.read_again() == ()
    clock.now += MIN_AGE_SECONDS + 0.1
    assert keys.read_again() == (SECOND, FIRST)
    assert keys.kept() == (SECOND, FIRST)
    for _ in range(100):
        assert keys.read_again() == ()
    assert secret.reads["AWSCURRENT"] == 2


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (secrets_manager_error("AccessDeniedException"), "AccessDeniedException"),
        (secrets_manager_error("ThrottlingException"), "ThrottlingException"),
        (EndpointConnectionError(endpoint_url="https://secrets.invalid"), "EndpointConnectionError"),
    ],
    ids=["denied", "throttled", "unreachable"],
)
def test_keys_out_of_reach_are_an_error_until_they_are_back(clock: Clock, failure: Exception, says: str) -> None:
    secret = FakeSecret(FIRST)
    keys = keys_of(secret, clock)
    secret.failure = failure
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match=says):
            keys.kept()
    secret.failure = None
    assert keys.kept() == (FIRST,)


def test_keys_out_of_reach_leave_those_that_are_kept(clock: Clock) -> None:
    """A token that fits none makes the function ask again; what comes of that must not hurt who has a good one."""
    secret = FakeSecret(FIRST)
    keys = keys_of(secret, clock)
    keys.kept()
    clock.now += 2
    secret.failure = THROTTLED
    # The second time it asks nobody, and still cannot tell a forged token from one of a key that it did not get.
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match="ThrottlingException"):
            keys.read_again()
        assert keys.kept() == (FIRST,)
    assert secret.reads["AWSCURRENT"] == 2
    secret.failure = None
    clock.now += RETRY_SECONDS + 0.1
    assert keys.kept() == (FIRST,)
    assert keys.read_again() == (), "a token that fits none is forged again"


def test_keys_serve_through_an_outage_for_an_hour_and_are_asked_for_every_few_seconds(clock: Clock) -> None:
    secret, reported = FakeSecret(SECOND, FIRST), list[str]()
    keys = SigningKeys(secret, "orders-api/jwt", clock=clock, report=reported.append)
    keys.kept()
    begin = clock.now
    secret.failure = THROTTLED
    while clock.now < begin + MAX_OUTAGE_SECONDS:
        clock.now += 0.5
        assert keys.kept() == (SECOND, FIRST)
    tries = secret.reads["AWSCURRENT"] - 1
    assert 500 < tries <= (MAX_OUTAGE_SECONDS - MAX_AGE_SECONDS) / RETRY_SECONDS
    assert reported == ["ThrottlingException"] * tries
    clock.now += 0.5
    with pytest.raises(KeysUnavailableError):
        keys.kept()
    secret.failure = None
    assert keys.kept() == (SECOND, FIRST)
    assert len(reported) == tries


def test_previous_key_out_of_reach_does_not_lock_out_who_has_the_current_one(clock: Clock) -> None:
    secret, reported = FakeSecret(SECOND, FIRST), list[str]()
    keys = SigningKeys(secret, "orders-api/jwt", clock=clock, report=reported.append)
    secret.failing_stage, secret.failure = "AWSPREVIOUS", THROTTLED
    assert keys.kept() == (SECOND,)
    assert reported == ["ThrottlingException"]
    with pytest.raises(KeysUnavailableError):
        keys.read_again()
    clock.now += MAX_OUTAGE_SECONDS + 1
    assert keys.kept() == (SECOND,)
    secret.failure = None
    clock.now += RETRY_SECONDS + 0.1
    assert keys.kept() == (SECOND, FIRST)
    # It stays what it was until the secret is rotated.
    secret.failure = THROTTLED
    clock.now += MAX_AGE_SECONDS + 1
    assert keys.kept() == (SECOND, FIRST)
    secret.rotate(THIRD)
    clock.now += RETRY_SECONDS + 0.1
    assert keys.kept() == (THIRD,)


def test_slow_answers_are_not_asked_for_twice_in_one_call(clock: Clock) -> None:
    class Slow(FakeSecret):
        def get_secret_value(self, **request: str) -> dict[str, object]:
            clock.now += 1.4
            return super().get_secret_value(**request)

    secret = Slow(SECOND, FIRST)
    keys = keys_of(secret, clock)
    keys.kept()
    assert keys.read_again() == ()
    assert secret.reads == {"AWSCURRENT": 1, "AWSPREVIOUS": 1}


@pytest.mark.parametrize("key", ["", "k", "k" * (MIN_KEY_BYTES - 1)])
def test_key_that_anybody_could_guess_is_none(clock: Clock, key: str) -> None:
    with pytest.raises(KeysUnavailableError, match=f"has no key of at least {MIN_KEY_BYTES} bytes"):
        keys_of(FakeSecret(key), clock).kept()
    assert keys_of(FakeSecret(FIRST, key), clock).kept() == (FIRST,)


def test_key_is_measured_in_bytes(clock: Clock) -> None:
    key = "ż" * (MIN_KEY_BYTES // 2)
    assert keys_of(FakeSecret(key), clock).kept() == (key,)


def test_secret_that_does_not_exist(clock: Clock) -> None:
    with pytest.raises(KeysUnavailableError, match="missing"):
        keys_of(FakeSecret(FIRST), clock, "another/name").kept()


def test_client_gives_up_before_the_function_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = secrets_client().meta.config
    attempts = config.retries["total_max_attempts"]
    # botocore waits up to a second before the second attempt, and twice as long before each further one.
    waiting = 2 ** (attempts - 1) - 1
    # The rest is for the start of the function, which API Gateway counts too.
    assert STAGES * (attempts * (config.connect_timeout + config.read_timeout) + waiting) <= 0.8 * FUNCTION_SECONDS
