"""A second API server of a live stack, on another port and with other options: other users, or an AWS out of reach."""

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from local.processes.layout import LOOPBACK, PYTHON
from local.stack.description import Stack
from tests.worlds.live.waiting import wait_until
from tests.worlds.roles import USERS

Login = dict[str, object]
"""Options of a browser's context in which somebody is logged in."""


@contextmanager
def api_server(stack: Stack, folder: Path, options: Mapping[str, str]) -> Iterator[str]:
    """The server's address, for the block."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    url = f"http://{LOOPBACK}:{port}"
    words = (shlex.split(line) for line in Path(stack.env_file).read_text().splitlines())
    exported = dict(word.split("=", 1) for line in words if line[:1] == ["export"] for word in line[1:])
    environment = {"PATH": os.environ["PATH"], **exported, "AIRFLOW__API__BASE_URL": url, **options}
    command = [PYTHON, "-m", "airflow", "api-server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    with (folder / "api-server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(url), what=f"the API server; see {folder}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def roles(folder: Path) -> dict[str, str]:
    """Options of a server whose users are those of :mod:`tests.worlds.roles`; each one's password is its name."""
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.worlds.roles.RolesAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def log_in(url: str, user: str) -> Login:
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": user}).raise_for_status()
    cookie = {
        "name": "_token",
        "value": answer.json()["access_token"],
        "domain": LOOPBACK,
        "path": "/",
        "expires": -1,
        "httpOnly": False,
        "secure": False,
        "sameSite": "Lax",
    }
    return {"storage_state": {"cookies": [cookie], "origins": []}}


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", timeout=5).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.HTTPError:
        return False
