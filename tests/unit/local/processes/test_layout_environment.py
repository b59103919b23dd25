import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from local.processes.layout import (
    StackSecrets,
    clean_environment,
    parse_shell_exports,
    proxies,
    shell_exports,
    stay_on_this_machine,
    write_private,
    write_private_json,
)
from local.services.airflow import Places, airflow_environment

SECRETS = StackSecrets()


PLACES = Places(
    project=Path("/the project"),
    airflow_url="http://127.0.0.1:8080",
    execution_url="http://127.0.0.1:8080/execution/",
    aws_endpoint_url="http://127.0.0.1:4566",
    database_url="postgresql+psycopg2://postgres@/postgres?host=/run",
    async_database_url="postgresql+asyncpg://postgres@/postgres?host=/run",
)


def airflow_variables(places: Places = PLACES) -> dict[str, str]:
    return airflow_environment(Path("/state dir/airflow"), places, SECRETS)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_PROFILE",
        "AIRFLOW__CORE__EXECUTOR",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "CELERY_BROKER_URL",
        "https_proxy",
        "MAKEFLAGS",
        "WEB_CONCURRENCY",
        "UVICORN_RELOAD",
    ],
)
def test_the_callers_shell_does_not_reach_the_services(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "from the shell")
    assert name not in clean_environment()


def test_what_services_need_of_the_callers_shell_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates.pem")
    environment = clean_environment()
    assert environment["HOME"] == "/home/someone"
    assert environment["SSL_CERT_FILE"] == "/certificates.pem"
    assert environment["PYTHONUTF8"] == "1"


def test_stack_is_called_without_the_callers_proxy_which_is_kept_for_what_comes_from_outside() -> None:
    given = {"HTTP_PROXY": "http://proxy:3128", "all_proxy": "socks5://proxy:1080"}
    profiles = {"AWS_PROFILE": "not there", "AWS_DEFAULT_PROFILE": "nor there"}
    with patch.dict(os.environ, given | profiles):
        stay_on_this_machine()
        assert not (given | profiles).keys() & os.environ.keys()
        assert proxies() == given
        here = clean_environment()
    with patch.dict(os.environ, here, clear=True):
        assert proxies() == given, "the process that builds is a child"


def test_every_aws_client_of_airflow_goes_to_the_emulator() -> None:
    variables = airflow_variables()
    endpoint = "http://127.0.0.1:4566"
    assert variables["AWS_ENDPOINT_URL"] == endpoint
    assert json.loads(variables["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]["endpoint_url"] == endpoint
    assert json.loads(variables["AIRFLOW__SECRETS__BACKEND_KWARGS"])["endpoint_url"] == endpoint
    assert variables["AWS_CONFIG_FILE"] == variables["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_celery_runs_the_tasks_where_there_is_a_broker_and_changes_nothing_else() -> None:
    without, with_broker = airflow_variables(), airflow_variables(replace(PLACES, broker_url="redis://there"))
    assert without["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert with_broker["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert with_broker["AIRFLOW__CELERY__BROKER_URL"] == "redis://there"
    assert with_broker["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+{PLACES.database_url}"
    assert not any("CELERY" in name for name in without)
    changed = {name for name in without if with_broker[name] != without[name]}
    assert changed == {"AIRFLOW__CORE__EXECUTOR"}


def test_secrets_differ_from_stack_to_stack_and_hide_in_messages() -> None:
    other = StackSecrets()
    names = ("fernet_key", "jwt_secret", "session_key", "dex_client_secret", "call_details_secret_key")
    for name in names:
        assert getattr(SECRETS, name) != getattr(other, name)
        assert getattr(SECRETS, name) not in repr(SECRETS)


def test_a_shell_and_the_parser_read_the_exports_alike(tmp_path: Path) -> None:
    variables = airflow_variables() | {"AIRFLOW__CORE__ODD": 'it\'s "odd" $HOME `x`'}
    file = tmp_path / "airflow.env"
    file.write_text(shell_exports(variables))
    parsed = parse_shell_exports(file)
    assert parsed["AIRFLOW__CORE__ODD"] == variables["AIRFLOW__CORE__ODD"]
    printed = subprocess.run(
        ["sh", "-c", f'. "{file}"; env -0'],
        env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath, "NO_PROXY": "intranet"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seen = dict(line.split("=", 1) for line in printed.split("\0") if line)
    assert parsed.items() <= seen.items()
    assert "PYTHONDONTWRITEBYTECODE" not in seen
    assert seen["no_proxy"] == seen["NO_PROXY"] == "intranet,127.0.0.1"


def test_nothing_is_left_of_what_the_shell_says_about_aws(tmp_path: Path) -> None:
    file = tmp_path / "airflow.env"
    file.write_text(shell_exports(airflow_variables()))
    ours = {"AWS_PORT": "4567", "PATH": os.defpath}
    theirs = {"AWS_PROFILE": "work", "AWS_ENDPOINT_URL_DYNAMODB": "http://there", "AWS_SESSION_TOKEN": "of\nwork"}
    for shell in ("sh", "bash"):
        printed = subprocess.run(
            [shell, "-euc", f'. "{file}"; env'], env=ours | theirs, capture_output=True, text=True, check=True
        ).stdout
        names = {line.partition("=")[0] for line in printed.splitlines()}
        expected = {name for name in airflow_variables() if name.startswith("AWS_")}
        assert {name for name in names if name.startswith("AWS_")} == expected | {"AWS_PORT"}


def test_aws_gets_the_emulators_address_as_an_argument_whatever_its_version(tmp_path: Path) -> None:
    file = tmp_path / "airflow.env"
    file.write_text(shell_exports(airflow_variables()))
    command = tmp_path / "aws"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    for shell in ("sh", "bash"):
        printed = subprocess.run(
            [shell, "-c", f'. "{file}"; aws s3 ls'],
            env={"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        endpoint = airflow_variables()["AWS_ENDPOINT_URL"]
        assert printed.split() == ["--endpoint-url", endpoint, "s3", "ls"]


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "inner" / "secret.json"
    write_private_json(file, {"a": 1})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_failed_write_leaves_the_old_content_and_no_scratch_file(tmp_path: Path) -> None:
    file = tmp_path / "stack.json"
    write_private(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(file, "\ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
