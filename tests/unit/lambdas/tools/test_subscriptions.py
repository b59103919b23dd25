import base64
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import example, given
from hypothesis import strategies as st

from include.clients.webhooks import usable_url
from lambdas.tools import subscriptions
from lambdas.tools.subscriptions import check_url
from lambdas.tools.tables import ToolError
from tests.worlds.dynamodb import FakeTable, Lose, table_error

HERE = ["--environment", "test", "--owner", "test-user"]
URL = "https://example.com/hooks?a=b"
SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()
TIMED_OUT = ReadTimeoutError(endpoint_url="https://dynamodb.invalid")

NO_ADDRESSES = (
    *("", "x", "example.com", "https://", "https:///x", "ftp://a.example", "file:///etc/passwd", "//a.example"),
    *("https://a.example/\n", "https://a b/", "https://ż.pl", "https://a.example:x/", "https://a:99999/", "https://["),
)

Run = Callable[..., str]


@pytest.fixture
def table(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeTable:
    """The table that the tool's client reads."""
    aws["dynamodb"] = FakeTable("subscriptions-test", "owner")
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    return aws["dynamodb"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], table: FakeTable, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the tool and returns what it printed on standard output."""

    def run(*arguments: str, given: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        assert subscriptions.main([*arguments, *HERE]) == 0
        return capsys.readouterr().out

    return run


def test_first_subscription_gets_a_secret_that_is_printed_alone(table: FakeTable, run: Run) -> None:
    secret = run("put", "--url", URL).removesuffix("\n")
    item = table.items["test-user"]
    assert item["secret"] == {"S": secret}
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert (item["url"], item["active"], set(item)) == (
        {"S": URL},
        {"BOOL": True},
        {"owner", "url", "secret", "active", "updated_at"},
    )


def test_another_address_leaves_the_secret(table: FakeTable, run: Run) -> None:
    """Else the receiver would refuse every delivery from now on."""
    secret = run("put", "--url", URL).strip()
    assert run("put", "--url", "https://example.com/other") == ""
    assert table.items["test-user"]["secret"] == {"S": secret}
    assert table.items["test-user"]["url"] == {"S": "https://example.com/other"}


def test_secret_that_is_given_is_taken_and_not_printed(table: FakeTable, run: Run) -> None:
    run("put", "--url", URL)
    assert run("put", "--url", URL, "--secret", "-", given=f"{SECRET}\n") == ""
    assert table.items["test-user"]["secret"] == {"S": SECRET}


def test_show_has_everything_but_the_secret(run: Run) -> None:
    secret = run("put", "--url", URL).strip()
    shown = run("show")
    assert f"url: {URL}\n" in shown
    assert "active: true\n" in shown
    assert secret not in shown


def test_webhook_is_switched_off_and_on_again(table: FakeTable, run: Run) -> None:
    run("put", "--url", URL)
    run("off")
    assert "active: false\ndeactivated_reason: switched off by hand\n" in run("show")
    run("put", "--url", URL)
    assert "active: true\nowner: " in run("show")
    assert "deactivated_reason" not in table.items["test-user"]


@pytest.mark.parametrize("command", ["show", "off"])
def test_owner_without_a_subscription_is_said(
    table: FakeTable, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert subscriptions.main([command, *HERE]) == 1
    assert capsys.readouterr().err.startswith("error: test-user has no subscription in table subscriptions-test: ")
    assert table.items == {}


@pytest.mark.parametrize("command", [["put", "--url", URL], ["show"], ["off"]], ids=lambda command: command[0])
def test_table_that_does_not_answer_is_named(
    table: FakeTable, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    table.faults = iter([table_error("ResourceNotFoundException")])
    assert subscriptions.main([*command, *HERE]) == 1
    assert "check --environment and AWS_DEFAULT_REGION" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["https://a.example", "https://a.example:8443/x/y?z=1", "HTTPS://A.example/", "https://[2001:db8::1]/"]
)
def test_address_of_a_webhook_is_stored_as_given(table: FakeTable, run: Run, url: str) -> None:
    run("put", "--url", url)
    assert table.items["test-user"]["url"] == {"S": url}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        *((url, "--url must be an address such as ") for url in NO_ADDRESSES),
        ("http://a.example/", "--url must begin with https://"),
        *((url, "--url must have neither a user") for url in ("https://u:planted@a.example", "https://a.example/#x")),
        ("https://a.example/" + "x" * 2_048, "--url must have at most 2048 characters"),
    ],
    ids=lambda text: text[:30],
)
def test_address_that_could_never_be_delivered_to(
    table: FakeTable, capsys: pytest.CaptureFixture[str], url: str, says: str
) -> None:
    assert subscriptions.main(["put", "--url", url, *HERE]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"error: {says}")
    assert "planted" not in errors
    assert not table.calls


@given(
    st.from_regex(r"https?://[!-~]{0,30}(:[0-9]{0,6})?(/[!-~]{0,9})?", fullmatch=True)
    | st.from_regex(r"https://\[?[0-9a-fv.:]{1,20}\]?/", fullmatch=True)
)
@example("https://[v1.a]/")
@example("https://999.1.1.1/")
def test_what_the_delivery_could_not_post_to_is_refused(url: str) -> None:
    if usable_url(url, https_only=True) is None:
        with pytest.raises(ToolError):
            check_url(url, allow_http=False)


def test_http_is_for_the_local_stack(table: FakeTable, run: Run) -> None:
    run("put", "--url", "http://127.0.0.1:8081/receivers/a", "--allow-http")
    assert table.items["test-user"]["url"] == {"S": "http://127.0.0.1:8081/receivers/a"}


@pytest.mark.parametrize(
    "secret",
    [
        *("", "whsec_", "planted", "whsec_*", SECRET.removeprefix("whsec_"), SECRET[:-1]),
        *("whsec_" + base64.b64encode(b"s" * size).decode() for size in (23, 65)),
    ],
    ids=lambda secret: secret[:20],
)
def test_secret_that_is_none_is_refused_and_not_shown(
    table: FakeTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(secret))
    assert subscriptions.main(["put", "--url", URL, "--secret", "-", *HERE]) == 1
    errors = capsys.readouterr().err
    assert errors == "error: the secret must be whsec_ and base64 of 24 to 64 bytes\n"
    assert not table.calls


def test_secret_among_the_arguments_is_refused_and_not_repeated(
    table: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list of processes and the shell's history would show it."""
    with pytest.raises(SystemExit) as caught:
        subscriptions.main(["put", "--url", URL, "--secret", SECRET, *HERE])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "must be -, which reads the secret from standard input" in errors
    assert SECRET not in errors
    assert not table.calls


def test_rotated_secret_is_new_and_printed_alone(table: FakeTable, run: Run) -> None:
    first = run("put", "--url", URL).strip()
    second = run("put", "--url", URL, "--rotate-secret").strip()
    assert second != first
    assert len(base64.b64decode(second.removeprefix("whsec_"), validate=True)) == 32
    item = table.items["test-user"]
    assert (item["secret"], item["previous_secret"]) == ({"S": second}, {"S": first})
    assert item["rotated_at"] == item["updated_at"]
    assert not {first, second} & set(run("show").split())


def test_secret_that_is_put_twice_leaves_the_one_before(table: FakeTable, run: Run) -> None:
    """As botocore does if an answer gets lost; deliveries would not be signed with the one before any more."""
    first = run("put", "--url", URL).strip()
    for url in (URL, "https://example.com/other"):
        run("put", "--url", url, "--secret", "-", given=f"{SECRET}\n")
        item = table.items["test-user"]
        assert (item["secret"], item["previous_secret"]) == ({"S": SECRET}, {"S": first})
        assert item["url"] == {"S": url}


@pytest.mark.parametrize("fault", [table_error("InternalServerError"), TIMED_OUT])
def test_secret_whose_rotation_got_no_answer_is_told_and_may_be_given_again(
    table: FakeTable, run: Run, capsys: pytest.CaptureFixture[str], fault: Exception
) -> None:
    """Rotated once more, it would be the one before, and the receiver would refuse what its own does not sign."""
    first = run("put", "--url", URL).strip()
    table.faults = iter([Lose(fault)])
    assert subscriptions.main(["put", "--url", URL, "--rotate-secret", *HERE]) == 1
    second = capsys.readouterr().out.strip()
    run("put", "--url", URL, "--secret", "-", given=f"{second}\n")
    item = table.items["test-user"]
    assert (item["secret"], item["previous_secret"]) == ({"S": second}, {"S": first})


def test_secret_whose_rotation_was_refused_is_not_told(table: FakeTable, capsys: pytest.CaptureFixture[str]) -> None:
    table.faults = iter([table_error("AccessDeniedException")])
    assert subscriptions.main(["put", "--url", URL, "--rotate-secret", *HERE]) == 1
    assert capsys.readouterr().out == ""


def test_secret_is_either_given_or_rotated(table: FakeTable) -> None:
    with pytest.raises(SystemExit):
        subscriptions.main(["put", "--url", URL, "--secret", "-", "--rotate-secret", *HERE])
    assert table.items == {}
