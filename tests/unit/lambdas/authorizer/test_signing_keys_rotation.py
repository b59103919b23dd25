"""The verifier and the secret: rotation, forgers, and a Secrets Manager that is out of reach."""

import jwt
import pytest
import time_machine

from lambdas.authorizer.signing_keys import DeniedError, KeysUnavailableError
from tests.worlds.authorizer import KEY, NOW, OTHER_KEY, signed, subject, verifier
from tests.worlds.tokens import HS256, FakeSecret, claims, forge, secrets_manager_error


def test_rotation_keeps_tokens_of_the_key_before_and_takes_those_of_the_new_one() -> None:
    secret = FakeSecret(KEY)
    checker = verifier(secret)
    old, new = signed(), forge(HS256, claims(sub="new"), OTHER_KEY)
    assert checker.subject(old) == "test-user"
    secret.rotate(OTHER_KEY)
    with time_machine.travel(NOW + 2, tick=False):
        assert checker.subject(new) == "new"
        assert checker.subject(old) == "test-user"
    secret.rotate("x" * 64)
    with time_machine.travel(NOW + 400, tick=False):
        assert checker.subject(forge(HS256, claims(sub="new"), OTHER_KEY)) == "new"
        with pytest.raises(DeniedError):
            checker.subject(forge(HS256, claims(), KEY))


def test_forged_tokens_cannot_make_it_read_more_than_once_a_second() -> None:
    secret = FakeSecret(KEY)
    checker = verifier(secret)
    for tenth in range(50):
        with time_machine.travel(NOW + tenth / 10, tick=False), pytest.raises(DeniedError):
            checker.subject(forge(HS256, claims(), OTHER_KEY))
    assert secret.reads["AWSCURRENT"] <= 6


def test_malformed_tokens_make_it_read_nothing_anew() -> None:
    secret = FakeSecret(KEY)
    checker = verifier(secret)
    for second in range(20):
        with time_machine.travel(NOW + 2 * second, tick=False), pytest.raises(DeniedError):
            checker.subject("a.b.c")
    assert secret.reads["AWSCURRENT"] == 1


def test_token_that_cannot_be_checked_is_neither_let_in_nor_denied() -> None:
    secret = FakeSecret(KEY)
    secret.failure = secrets_manager_error("InternalServiceError")
    with pytest.raises(KeysUnavailableError):
        subject(signed(), secret=secret)


def test_key_below_the_length_of_the_rfc_works_and_is_warned_about() -> None:
    key = "k" * 29
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning, match="29 bytes"):
        assert subject(forge(HS256, claims(), key), secret=FakeSecret(key)) == "test-user"
