import time
from typing import Any

import jwt
import pytest
from botocore.exceptions import EndpointConnectionError

from lambdas.authorizer.signing_keys import SigningKeys
from lambdas.authorizer.verification import TokenVerifier
from lambdas.tools import issue_token
from tests.worlds.tokens import FakeSecret, secrets_manager_error

KEY, PREVIOUS_KEY = "k" * 64, "p" * 64


@pytest.fixture
def secret(aws: dict[str, Any]) -> FakeSecret:
    aws["secretsmanager"] = FakeSecret(KEY, PREVIOUS_KEY)
    return aws["secretsmanager"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert issue_token.main(list(arguments)) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert output.count("\n") == 1
    return output.strip()


def test_token_is_printed_alone_and_let_in(secret: FakeSecret, capsys: pytest.CaptureFixture[str]) -> None:
    token = printed(capsys, "--subject", "test-user")
    keys = SigningKeys(secret, "orders-api/jwt", clock=time.time)
    assert TokenVerifier(keys, audience="orders-api", issuer=None).subject(token) == "test-user"
    claims = jwt.decode(token, KEY, algorithms=["HS256"], audience="orders-api")
    assert set(claims) == {"sub", "aud", "iat", "exp"}
    assert abs(claims["iat"] - time.time()) < 60


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("1s", 1), ("30s", 30), ("15m", 900), ("1h", 3_600), ("7d", 604_800), ("30d", 2_592_000)]
)
def test_token_lives_as_long_as_was_asked(
    secret: FakeSecret, capsys: pytest.CaptureFixture[str], ttl: str, seconds: int
) -> None:
    token = printed(capsys, "--subject", "a", "--ttl", ttl)
    claims = jwt.decode(token, KEY, algorithms=["HS256"], audience="orders-api", leeway=60)
    assert claims["exp"] - claims["iat"] == seconds


def test_audience_and_issuer_are_for_the_caller_to_name(secret: FakeSecret, capsys: pytest.CaptureFixture[str]) -> None:
    token = printed(capsys, "--subject", "a", "--audience", "", "--issuer", "me")
    claims = jwt.decode(token, KEY, algorithms=["HS256"])
    assert (claims.get("aud"), claims["iss"]) == (None, "me")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--subject", ""],
        ["--subject", "a\nb"],
        ["--subject", "x" * 257],
        *[["--subject", "a", "--ttl", ttl] for ttl in ("", "0s", "1", "h", "1w", "-1h", "1.5h", "31d", "721h", "１h")],
        ["--subject", "a", "extra"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30] or "none",
)
def test_wrong_arguments_exit_with_2_and_make_no_token(
    secret: FakeSecret, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        issue_token.main(arguments)
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "error: " in errors
    assert secret.reads == {}


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (secrets_manager_error("AccessDeniedException"), "AccessDeniedException"),
        (EndpointConnectionError(endpoint_url="https://secrets.invalid"), "EndpointConnectionError"),
        (None, "missing"),
    ],
    ids=["denied", "unreachable", "absent"],
)
def test_secret_that_cannot_be_read_is_named_and_exits_with_1(
    secret: FakeSecret, capsys: pytest.CaptureFixture[str], failure: Exception | None, says: str
) -> None:
    secret.failure = failure
    name = "orders-api/jwt" if failure else "planted/name"
    assert issue_token.main(["--subject", "a", "--secret-id", name]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"error: cannot read the key from secret {name}: ")
    assert says in errors
    assert KEY not in errors


def test_missing_region_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    assert issue_token.main(["--subject", "a"]) == 1
    assert "region" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "Invalid endpoint: nonsense"),
        ("127.0.0.1:4566", "Invalid endpoint: 127.0.0.1:4566"),
        ("http://[", "Invalid IPv6 URL"),
    ],
)
def test_address_that_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, says: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert issue_token.main(["--subject", "a"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == f"error: cannot read the key from secret orders-api/jwt: {says}\n"


def test_help_says_how_to_reach_the_local_stack(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        issue_token.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert ". .local/airflow.env" in text
    assert "30d" in text
    # The one that botocore reads.
    assert "AWS_DEFAULT_REGION" in text
