"""`python -m local.compose.env`: make the secrets that docker-compose.yaml asks for.

They are random, and go into `.env`, which Docker Compose reads by itself and git ignores. Needs nothing but Python.
Checks as well that the containers, whose user is another, can read what they mount and what their images take.
"""

from __future__ import annotations

import argparse
import secrets
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from local.processes.layout import PROJECT_ROOT, StackSecrets, write_private


def make_variables() -> dict[str, str]:
    """New secrets by the name of their variable; none has a character that Compose or an address would interpret."""
    own = StackSecrets()
    return {
        "AIRFLOW_FERNET_KEY": own.fernet_key,
        "AIRFLOW_JWT_SECRET": own.jwt_secret,
        "AIRFLOW_SESSION_KEY": own.session_key,
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "REDIS_PASSWORD": secrets.token_urlsafe(24),
        "SQL_ADMIN_PASSWORD": _password_of_four_kinds(),
        "SQL_READER_PASSWORD": _password_of_four_kinds(),
        "DEX_CLIENT_SECRET": own.dex_client_secret,
        "CALL_DETAILS_ACCESS_KEY": own.call_details_access_key,
        "CALL_DETAILS_SECRET_KEY": own.call_details_secret_key,
    }


READ = ("dags", "plugins", "include", "infra", "lambdas", "local", "ops", "requirements", "requirements.txt")
"""What the containers mount, and what their images take, with its modes."""


def unreadable(project: Path) -> list[Path]:
    """Files and folders that the containers read and only their owner may, as a checkout under umask 077 has."""
    found = []
    for path in (each for name in READ for each in (project / name, *(project / name).rglob("*"))):
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        # What Python compiles, the containers compile themselves.
        if path.stat().st_mode & needed != needed and "__pycache__" not in path.relative_to(project).parts:
            found.append(path)
    return found


def _password_of_four_kinds() -> str:
    """SQL Server refuses passwords without capitals, small letters, digits or other characters."""
    return f"{secrets.token_urlsafe(24)}-Aa1"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns 0, or 1 if there is one, which then stays as it is, or if containers cannot read all."""
    parser = argparse.ArgumentParser(prog="python -m local.compose.env", description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=PROJECT_ROOT / ".env",
        help="file to write (default: .env beside docker-compose.yaml)",
    )
    parser.add_argument("--project", type=Path, default=PROJECT_ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    path: Path = options.out
    if closed := unreadable(options.project):
        print(
            f"error: the containers' user could not read {closed[0]} and {len(closed) - 1} more: "
            f"run 'chmod -R go+rX {' '.join(READ)}' in {options.project}, and try again",
            file=sys.stderr,
        )
        return 1
    if path.exists():
        print(
            f"error: {path} exists, and databases may have been made with its passwords. To have new ones: "
            f"'docker compose down --volumes', delete {path.name}, and try again",
            file=sys.stderr,
        )
        return 1
    lines = [f"{name}={value}" for name, value in make_variables().items()]
    write_private(path, "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
