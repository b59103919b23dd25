import io
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from lambdas.events_api.api_keys import ApiKeyStore, DeniedError, id_of, is_key, new_key
from lambdas.tools import api_keys
from lambdas.tools.tables import carried_out
from tests.worlds.dynamodb import FakeTable, table_error

HERE = ["--environment", "test"]


@pytest.fixture
def table(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeTable:
    """The table that the tool's client reads."""
    aws["dynamodb"] = FakeTable("api-keys-test", "key_id")
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    return aws["dynamodb"]


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the tool and returns what it printed on standard output."""

    def run(*arguments: str) -> str:
        assert api_keys.main([*arguments, *HERE]) == 0
        return capsys.readouterr().out

    return run


def keys(table: FakeTable) -> ApiKeyStore:
    return ApiKeyStore(table, "api-keys-test", clock=lambda: 0.0)


def test_key_is_printed_alone_and_opens_its_owner_s_events(table: FakeTable, run: Run) -> None:
    output = run("create", "--owner", "test-user")
    key = output.removesuffix("\n")
    assert is_key(key)
    assert keys(table).find(key).owner == "test-user"


def test_what_is_kept_does_not_give_the_key_away(table: FakeTable, run: Run) -> None:
    key = run("create", "--owner", "test-user", "--label", "for a test").strip()
    (item,) = table.items.values()
    assert set(item) == {"key_id", "owner", "salt", "hash", "iterations", "created_at", "label"}
    assert item["key_id"] == {"S": key[3:11]}
    assert key[11:] not in str(item)
    shown = run("list")
    assert key[11:] not in shown
    assert item["hash"]["S"] not in shown


def test_id_that_is_taken_is_drawn_again(table: FakeTable, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter("a" * 64 + "b" * 32)
    monkeypatch.setattr("secrets.choice", lambda alphabet: next(drawn))
    made = [run("create", "--owner", owner).strip() for owner in ("one", "two")]
    assert made == ["sk_" + "a" * 32, "sk_" + "b" * 32]
    assert [item["owner"]["S"] for item in table.items.values()] == ["one", "two"]


def test_list_shows_all_keys_or_those_of_an_owner(table: FakeTable, run: Run) -> None:
    assert run("list").split() == ["KEY", "OWNER", "CREATED", "REVOKED", "LABEL"]
    ids = {owner: id_of(run("create", "--owner", owner).strip()) for owner in ("b", "a", "c")}
    lines = run("list").splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[ids[owner], owner] for owner in "abc"]
    (line,) = run("list", "--owner", "b").splitlines()[1:]
    assert line.startswith(ids["b"])


def test_list_shows_a_label_on_a_terminal_that_lacks_its_letters(
    table: FakeTable, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create", "--owner", "test-user", "--label", "Łódź")
    monkeypatch.setattr(sys, "stdout", terminal := io.TextIOWrapper(printed := io.BytesIO(), encoding="latin-1"))
    assert api_keys.main(["list", *HERE]) == 0
    terminal.flush()
    assert printed.getvalue().endswith(b"\\u0141\xf3d\\u017a\n")


def test_list_ends_quietly_when_nobody_reads_any_more(table: FakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert api_keys.main(["list", *HERE]) == 0


def test_revoked_key_opens_nothing_and_stays_in_the_list(table: FakeTable, run: Run) -> None:
    key = run("create", "--owner", "test-user").strip()
    assert "within 60 seconds" in run("revoke", id_of(key))
    revoked_at = table.items[id_of(key)]["revoked_at"]
    run("revoke", id_of(key))
    assert table.items[id_of(key)]["revoked_at"] == revoked_at
    with pytest.raises(DeniedError, match="revoked"):
        keys(table).find(key)
    assert revoked_at["S"] in run("list")


def test_whole_key_is_revoked_too_and_not_shown(table: FakeTable, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    key, other = run("create", "--owner", "test-user").strip(), new_key()
    assert key not in run("revoke", key)
    assert "revoked_at" in table.items[id_of(key)]
    assert api_keys.main(["revoke", other, *HERE]) == 1
    assert other not in capsys.readouterr().err
    for pasted in (f"Bearer {other}", f"'{other}'", other[:-1], other.removeprefix("sk_")):
        with pytest.raises(SystemExit):
            api_keys.main(["revoke", pasted, *HERE])
        errors = capsys.readouterr().err
        assert "must be the first 8 characters of the key after sk_" in errors
        assert other[3:-1] not in errors


def test_revoking_what_is_not_there_is_an_error(table: FakeTable, capsys: pytest.CaptureFixture[str]) -> None:
    assert api_keys.main(["revoke", "abcdefgh", *HERE]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: there is no key abcdefgh in table api-keys-test: ")
    assert "list" in errors
    assert table.items == {}


@pytest.mark.parametrize("command", [["create", "--owner", "a"], ["list"], ["revoke", "abcdefgh"]], ids=" ".join)
@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (table_error("ResourceNotFoundException"), "check --environment and AWS_DEFAULT_REGION"),
        (table_error("AccessDeniedException"), "check AWS_PROFILE"),
        (table_error("ThrottlingException"), "ThrottlingException"),
        (EndpointConnectionError(endpoint_url="https://dynamodb.invalid"), "https://dynamodb.invalid"),
    ],
    ids=["absent", "denied", "throttled", "unreachable"],
)
def test_table_that_does_not_answer_is_named(
    table: FakeTable, capsys: pytest.CaptureFixture[str], command: list[str], failure: Exception, says: str
) -> None:
    table.faults = iter([failure])
    assert api_keys.main([*command, *HERE]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: table api-keys-test: ")
    assert says in errors


def test_command_that_somebody_interrupts_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert carried_out(interrupted, "api-keys-test") == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["show"],
        ["create", *HERE],
        ["create", "--owner", "a"],
        *[["create", "--owner", owner, *HERE] for owner in ("", "a b", "a#b", "-a", "x" * 101, "a\n")],
        *[["create", "--owner", "a", "--label", label, *HERE] for label in ("", "a\nb", "x" * 201)],
        ["create", "--owner", "a", "--environment", "test", "--table", "t"],
        ["revoke", *HERE],
        ["list", "extra", *HERE],
    ],
    ids=lambda arguments: " ".join(arguments)[:40] or "none",
)
def test_wrong_arguments_exit_with_2_and_do_nothing(
    table: FakeTable, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        api_keys.main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not table.calls


def test_table_by_its_name_or_by_the_environment_of_the_shell(
    monkeypatch: pytest.MonkeyPatch, table: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api_keys.main(["list", "--table", "api-keys-test"]) == 0
    monkeypatch.setenv("ENVIRONMENT", "test")
    assert api_keys.main(["list"]) == 0
    monkeypatch.setenv("ENVIRONMENT", "other")
    assert api_keys.main(["list", "--table", "api-keys-test"]) == 0
    assert api_keys.main(["list"]) == 1
    assert "table api-keys-other: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "says"), [("nonsense", "Invalid endpoint: nonsense"), ("http://[", "Invalid IPv6 URL")]
)
def test_address_that_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, says: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert api_keys.main(["list", *HERE]) == 1
    assert capsys.readouterr().err == f"error: table api-keys-test: {says}\n"


@pytest.mark.parametrize("command", [[], ["create"], ["list"], ["revoke"]], ids=" ".join)
def test_help_says_where_the_table_is_found(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        api_keys.main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert ("--environment" if command else ". .local/airflow.env") in text


@pytest.mark.parametrize("tool", ["api_keys", "issue_token", "subscriptions"])
def test_commands_need_nothing_that_only_functions_have(imports: Callable[..., set[str]], tool: str) -> None:
    assert "aws_lambda_powertools" not in imports(f"lambdas.tools.{tool}")
