"""Environments of the stack's processes, built from a clean base: a developer's shell cannot change them."""

from __future__ import annotations

import os
import secrets
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.layout import PYTHON

REGION = "us-east-1"
ENVIRONMENT_NAME = "local"
SETTINGS_VARIABLE = "airflow/variables/settings"
DUMMY_AWS_KEY = "test"

_DROPPED_PREFIXES = ("AWS_", "AIRFLOW", "PYTHON", "DEX_", "CALL_DETAILS_", "SAM_", "OTEL_", "PG", "CELERY_")
_DROPPED_NAMES = frozenset({"VIRTUAL_ENV", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"})


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """Secrets of one stack, new at each start. Never logged (`repr` hides them)."""

    fernet_key: str = field(repr=False, default_factory=lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode())
    jwt_secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(48))
    session_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    dex_client_id: str = "local-archive"
    dex_client_secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))
    call_details_access_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(15))
    call_details_secret_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would change Airflow, Python, boto3 or HTTP clients.

    `PYTHONDONTWRITEBYTECODE` matters most: with it every Airflow process compiles for seconds at each start.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED_PREFIXES) and name.upper() not in _DROPPED_NAMES
    }
    kept["PATH"] = os.pathsep.join([str(PYTHON.parent), kept.get("PATH", os.defpath)])
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def aws_environment(endpoint_url: str) -> dict[str, str]:
    """Variables that point every AWS client at the emulator and away from the user's own configuration."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": DUMMY_AWS_KEY,
        "AWS_SECRET_ACCESS_KEY": DUMMY_AWS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def shell_exports(environment: Mapping[str, str]) -> str:
    """The Airflow and AWS part of an environment as lines for `.` in a shell."""
    names = [name for name in sorted(environment) if name.startswith(("AIRFLOW", "AWS_")) or name == "PYTHONPATH"]
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in names]
    return "\n".join(["unset PYTHONDONTWRITEBYTECODE", *lines, ""])


def parse_shell_exports(path: Path) -> dict[str, str]:
    """Read back what `shell_exports` wrote; returns {name: value}."""
    exports = (line.removeprefix("export ") for line in path.read_text().splitlines() if line.startswith("export "))
    pairs = (line.partition("=") for line in exports)
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}
