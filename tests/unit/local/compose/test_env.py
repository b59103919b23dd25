import re
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from local.compose.env import READ, main, make_variables


def test_secrets_are_new_each_time_and_need_no_quoting() -> None:
    first, second = make_variables(), make_variables()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] != second[name]
        # Neither Compose, a shell nor an address sees anything in these.
        assert re.fullmatch(r"[A-Za-z0-9_=-]{20,}", first[name])
    Fernet(first["AIRFLOW_FERNET_KEY"])


@pytest.mark.parametrize("name", ["SQL_ADMIN_PASSWORD", "SQL_READER_PASSWORD"])
def test_sql_server_accepts_its_passwords(name: str) -> None:
    password = make_variables()[name]
    assert all(re.search(kind, password) for kind in ("[A-Z]", "[a-z]", "[0-9]", "-"))
    assert len(password) <= 128


def test_the_file_is_for_its_owner_only_and_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    assert main(["--out", str(file)]) == 0
    written = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main(["--out", str(file)]) == 1
    assert file.read_text() == written
    said = capsys.readouterr()
    assert "docker compose down --volumes" in said.err
    assert not any(line.split("=", 1)[1] in said.out + said.err for line in written.splitlines())


def test_folders_that_the_containers_could_not_read_are_named_and_no_secret_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in READ:
        (tmp_path / name).mkdir(mode=0o755)
    closed = tmp_path / "dags" / "a.py"
    closed.touch(mode=0o600)
    compiled = tmp_path / "include" / "__pycache__"
    compiled.mkdir(mode=0o700)
    (compiled / "a.pyc").touch(mode=0o600)
    file = tmp_path / ".env"
    assert main(["--out", str(file), "--project", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{closed} and 0 more" in said
    assert "chmod -R go+rX dags plugins include infra" in said
    assert not file.exists()
    closed.chmod(0o644)
    closed.parent.chmod(0o744)
    assert main(["--out", str(file), "--project", str(tmp_path)]) == 1
    closed.parent.chmod(0o755)
    assert main(["--out", str(file), "--project", str(tmp_path)]) == 0
