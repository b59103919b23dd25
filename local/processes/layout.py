"""Where a stack lives: its state directory, its ports, and the environments of its processes.

State is below `.local` unless told otherwise, ports are free ones unless asked for, and environments are built from a
clean base, so that a developer's shell cannot change them.
"""

from __future__ import annotations

import errno
import json
import os
import random
import secrets
import shlex
import socket
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_STATE_DIRECTORY = PROJECT_ROOT / ".local"
PYTHON = Path(sys.executable)
EMULATOR_VENV = PROJECT_ROOT / ".venv-aws"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths inside one state directory. Two stacks with different state directories share nothing."""

    root: Path

    @property
    def stack_file(self) -> Path:
        """What scripts read while the stack runs (addresses, names, process ids); exists only then."""
        return self.root / "stack.json"

    @property
    def failed_file(self) -> Path:
        """Why the last stack stopped by itself; removed by the next start."""
        return self.root / "failed.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor as long as it lives; holds its process id."""
        return self.root / "supervisor.lock"

    @property
    def environment_file(self) -> Path:
        """Shell file with Airflow's environment, secrets included (mode 0600)."""
        return self.root / "airflow.env"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.root / "logs"

    @property
    def airflow_home(self) -> Path:
        """Airflow's own directory (AIRFLOW_HOME)."""
        return self.root / "airflow"

    @property
    def client_database(self) -> Path:
        """SQLite file that stands for the client database (`dex_db`)."""
        return self.root / "dex_clients.sqlite"

    @property
    def build(self) -> Path:
        """What `sam build` made of the template and the functions."""
        return self.root / "build"

    def log(self, service: str) -> Path:
        """Log file of one service."""
        return self.logs / f"{service}.log"


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, all at once: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_private_json(path: Path, content: object) -> None:
    """`write_private` for a JSON document."""
    write_private(path, json.dumps(content, indent=2) + "\n")


LOOPBACK = "127.0.0.1"
PREFERRED_AIRFLOW_PORT = 8080
# Below the range from which Linux and macOS take the source ports of outgoing connections (32768 and up): a
# port found free here cannot be taken by some connection's other end before the service listens on it.
_CANDIDATES = range(20_000, 32_000)
_ATTEMPTS = 200


class PortError(Exception):
    """A port cannot be had; the message names it, its service and how to choose another."""


def choose_ports(
    *services: str, fixed: Mapping[str, int | None] | None = None, preferred: Mapping[str, int | None] | None = None
) -> dict[str, int]:
    """Choose one port for each service; returns {service: port}, all different and free on 127.0.0.1.

    Args:
        services: their names.
        fixed: ports that services must have.
        preferred: ports to take if they happen to be free.

    Raises:
        PortError: a fixed port is out of range, taken, or asked for twice, or no port is free.
    """
    must, may, chosen = fixed or {}, preferred or {}, dict[str, int]()
    with ExitStack() as held:
        # All are held until all are chosen, fixed ones first, so that no two services get the same one.
        for service in sorted(services, key=lambda each: must.get(each) is None):
            port = must.get(service)
            claimed = _claim_any(service, may.get(service)) if port is None else _claim_fixed(service, port)
            chosen[service] = held.enter_context(claimed).getsockname()[1]
    return chosen


def _claim_fixed(service: str, port: int) -> socket.socket:
    option, variable = f"--{service}-port", f"{service.upper()}_PORT"
    if not 1 <= port <= 65_535:
        raise PortError(
            f"port {port} for {service} is out of range: choose one from 1 to 65535 with {option} or {variable}"
        )
    try:
        return _bind(port)
    except OSError as error:
        reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortError(
            f"port {port} for {service} {reason}: choose another with {option} PORT or {variable}=PORT, or leave it "
            "out to get a free one"
        ) from error


def _claim_any(service: str, preferred: int | None) -> socket.socket:
    candidates = random.sample(_CANDIDATES, _ATTEMPTS)
    if preferred is not None:
        candidates.insert(0, preferred)
    for port in candidates:
        try:
            return _bind(port)
        except OSError:
            continue
    raise PortError(f"no free port for {service} on {LOOPBACK}: name one with --{service}-port PORT")


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


REGION = "us-east-1"
ENVIRONMENT_NAME = "local"
SETTINGS_VARIABLE = "airflow/variables/settings"
DUMMY_AWS_KEY = "test"

_DROPPED_PREFIXES = ("AWS_", "AIRFLOW", "PYTHON", "DEX_", "CALL_DETAILS_", "SAM_", "OTEL_", "PG", "CELERY_", "UVICORN_")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"})
# The functions' make is none of the caller's, whose PYTHON=... may be relative to the project; and stubs of which there
# were several, as uvicorn makes them by WEB_CONCURRENCY, would each know a part of what they were sent.
_DROPPED_NAMES = _PROXIES | {"VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "WEB_CONCURRENCY"}
_PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_ASIDE = "ASIDE_"


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
    # Keys and names are in any language, whatever the caller's locale is.
    kept |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    return kept


def stay_on_this_machine() -> None:
    """Let no client of this process call the stack through the caller's proxy, or ask for the caller's AWS profile.

    The proxies stay under other names, for :func:`proxies` of this process and of those that it starts.
    """
    for name in [name for name in os.environ if name.upper() in _PROXIES]:
        os.environ[_ASIDE + name] = os.environ.pop(name)
    for name in _PROFILES:
        os.environ.pop(name, None)


def proxies() -> dict[str, str]:
    """The caller's proxies, for what comes from outside: wheels of the functions."""
    names = {name: name.removeprefix(_ASIDE) for name in os.environ}
    return {plain: os.environ[name] for name, plain in names.items() if plain.upper() in _PROXIES}


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


_FORGET_AWS = r"""
for _each in $(env | sed -n '/^AWS_PORT=/d; s/^\(AWS_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$_each"; done
unset _each"""
"""The emulator has no profile of the shell, and an address for one service would come before its own."""

_AWS_FUNCTION = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }'
"""Versions of the AWS CLI before 2.13, such as Debian's, do not read AWS_ENDPOINT_URL and would call AWS itself."""

_NO_PROXY = """\
no_proxy="${no_proxy:-${NO_PROXY:-}}"
no_proxy="${no_proxy:+$no_proxy,}127.0.0.1"; NO_PROXY="$no_proxy"; export no_proxy NO_PROXY"""
"""Neither curl nor any client in Python leaves out this machine by itself."""


def shell_exports(environment: Mapping[str, str]) -> str:
    """The Airflow and AWS part of an environment as lines for `.` in a shell."""
    names = [name for name in sorted(environment) if name.startswith(("AIRFLOW", "AWS_")) or name == "PYTHONPATH"]
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in names]
    return "\n".join(["unset PYTHONDONTWRITEBYTECODE", _FORGET_AWS, *lines, _NO_PROXY, _AWS_FUNCTION, ""])


def parse_shell_exports(path: Path) -> dict[str, str]:
    """Read back what `shell_exports` wrote; returns {name: value}."""
    exports = (line.removeprefix("export ") for line in path.read_text().splitlines() if line.startswith("export "))
    pairs = (line.partition("=") for line in exports)
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}
