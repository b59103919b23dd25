import inspect

import pytest
from botocore.exceptions import ClientError

from include import errors
from include.errors import Backoff


def _classes() -> list[type[errors.PipelineError]]:
    return [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.PipelineError)
    ]


def test_every_error_is_on_exactly_one_branch() -> None:
    leaves = [cls for cls in _classes() if not cls.__subclasses__()]
    assert leaves
    for cls in leaves:
        assert issubclass(cls, errors.TransientError) != issubclass(cls, errors.PermanentError), cls


@pytest.mark.parametrize("cls", _classes())
def test_message_is_kept_as_it_is(cls: type[errors.PipelineError]) -> None:
    assert str(cls("what to do")) == "what to do"


def test_transient_error_carries_the_wait_that_was_asked_for() -> None:
    assert errors.ApiUnavailableError("busy", retry_after=7.0).retry_after == 7.0
    assert errors.ApiUnavailableError("busy").retry_after is None


def test_error_of_ours_is_described_by_its_message_and_any_other_by_its_type_and_the_code_of_aws() -> None:
    assert errors.describe(errors.SettingsError("host is missing")) == "SettingsError: host is missing"
    assert errors.describe(ValueError("pl4nted")) == "ValueError, see the log"
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "pl4nted"}}, "PutObject")
    assert errors.describe(refused) == "ClientError AccessDenied, see the log"


def test_pauses_grow_to_their_limit_and_chance_adds_up_to_half() -> None:
    backoff = Backoff(first=1, longest=60)
    for _ in range(200):
        assert 1 <= backoff.seconds(1) <= 1.5
        assert 4 <= backoff.seconds(3) <= 6
        assert 60 <= backoff.seconds(30) <= 90
        assert 60 <= backoff.seconds(10_000) <= 90


def test_a_pause_is_no_shorter_than_what_was_asked_for_and_that_has_a_limit() -> None:
    backoff = Backoff(first=1, longest=60)
    for _ in range(200):
        assert 30 <= backoff.seconds(1, 30.0) <= 30.5
        assert 60 <= backoff.seconds(1, float("inf")) <= 60.5


def test_first_pause_has_the_limit_too() -> None:
    assert all(Backoff(first=10, longest=2, jitter=1).seconds(1) <= 4 for _ in range(200))


def test_without_chance_pauses_are_exact() -> None:
    assert [Backoff(first=2, growth=1.5, longest=4, jitter=0).seconds(n) for n in (1, 2, 3)] == [2, 3, 4]
