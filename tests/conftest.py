"""What every test starts from: no sockets, no bytecode left off, and an Airflow of the test session's own."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import disable_socket

ROOT = Path(__file__).resolve().parents[1]
OPEN_DIRECTORIES = ("integration", "e2e")
"""Under these, tests may talk to this machine."""

SOCKET_MARKERS = ("enable_socket", "allow_hosts")

# Airflow reads its configuration once, when it is first imported, and that is before any fixture runs.
_AIRFLOW_HOME = tempfile.mkdtemp(prefix="pipelines-tests-")
atexit.register(shutil.rmtree, _AIRFLOW_HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _AIRFLOW_HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    # Airflow would look its own name up in the network.
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
    "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_AIRFLOW_HOME}/airflow.db",
    # As docs/generate.py, which writes their pages into a document beside the runbook.
    "AIRFLOW__PIPELINES__RUNBOOK_URL": "RUNBOOK.md",
    "AIRFLOW__PIPELINES__RETRY_BASE_SECONDS": "0.01",
    "AWS_EC2_METADATA_DISABLED": "true",
}

# A slow machine is not a failure, and examples are the same in every run: what passed here passes there. To search
# others: --hypothesis-profile=search.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("pipelines", settings.get_profile("search"), derandomize=True)
settings.load_profile("pipelines")


NOT_OURS = (
    # Airflow 3.3.1 reads .airflowignore files by a class that pathspec has renamed.
    "ignore:GitWildMatchPattern .* is deprecated:DeprecationWarning",
)
"""Warnings of the libraries that we pin, about their own code."""


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors; these are not for us to mend."""
    for warning in NOT_OURS:
        config.addinivalue_line("filterwarnings", warning)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Close the network. Unix sockets stay: asyncio's event loop wakes itself through a pair of them."""
    parts = item.path.relative_to(ROOT / "tests").parts
    if parts[0] not in OPEN_DIRECTORIES and not any(map(item.get_closest_marker, SOCKET_MARKERS)):
        disable_socket(allow_unix_socket=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT
