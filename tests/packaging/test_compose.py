"""docker-compose.yaml is the local stack in containers: what both have in common must not drift apart."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.compose.deploy import SECRETS as DEPLOY_SECRETS
from local.compose.env import READ
from local.compose.env import main as write_env
from local.processes.layout import PYTHON, StackSecrets, clean_environment
from local.services.airflow import Places, airflow_variables
from local.services.celery import WORKER_NAMES, worker_commands
from local.services.emulator import emulator_command

Service = dict[str, Any]

ONE_SHOT = {"seed", "migrate"}
PROJECT = "/opt/pipelines"
MAKE_SECRETS = "python3.12 -m local.compose.env"
SECRET = re.compile(r"\$\{(\w+):\?([^}]*)\}")


def read_variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def config(root: Path, env_file: Path) -> subprocess.CompletedProcess[str]:
    command = [PYTHON.parent / "podman-compose", "--podman-path", "/bin/echo", "--env-file", env_file]
    command += ["-f", root / "docker-compose.yaml", "config"]
    return subprocess.run(
        command, cwd=env_file.parent, env=clean_environment(), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def secrets_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compose") / ".env"
    assert write_env(["--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def secrets(secrets_file: Path) -> dict[str, str]:
    return read_variables(secrets_file)


@pytest.fixture(scope="module")
def services(root: Path, secrets_file: Path) -> dict[str, Service]:
    answer = config(root, secrets_file)
    assert answer.returncode == 0, answer.stderr
    return yaml.safe_load(answer.stdout)["services"]


@pytest.fixture(scope="module")
def airflow(services: dict[str, Service]) -> dict[str, Service]:
    found = {name: service for name, service in services.items() if service["image"] == "pipelines-airflow"}
    assert set(found) == {"migrate", "api-server", "scheduler", "dag-processor", "triggerer", *WORKER_NAMES}
    return found


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "docker-compose.yaml").read_text()


def comparable(variables: dict[str, Any]) -> dict[str, Any]:
    """JSON by what it means, not by how it is spelt."""
    return {name: json.loads(value) if str(value).startswith("{") else str(value) for name, value in variables.items()}


def test_airflow_has_the_options_of_the_local_stack(airflow: dict[str, Service], secrets: dict[str, str]) -> None:
    database = f"airflow:{secrets['POSTGRES_PASSWORD']}@postgres/airflow"
    places = Places(
        project=Path(PROJECT),
        airflow_url="http://127.0.0.1:8080",
        execution_url="http://api-server:8080/execution/",
        aws_endpoint_url="http://emulator:4566",
        database_url=f"postgresql+psycopg2://{database}",
        async_database_url=f"postgresql+asyncpg://{database}",
        broker_url=f"redis://:{secrets['REDIS_PASSWORD']}@redis:6379/0",
    )
    own = StackSecrets(
        fernet_key=secrets["AIRFLOW_FERNET_KEY"],
        jwt_secret=secrets["AIRFLOW_JWT_SECRET"],
        session_key=secrets["AIRFLOW_SESSION_KEY"],
    )
    expected = comparable(airflow_variables(places, own))
    for name, service in airflow.items():
        environment = comparable(service["environment"])
        if name in WORKER_NAMES:
            assert environment.pop("DUMB_INIT_SETSID") == "0"
        assert environment == expected, name


def test_workers_are_those_of_the_local_stack(airflow: dict[str, Service]) -> None:
    local = {command.name: [str(part) for part in command.arguments] for command in worker_commands({})}
    for name in WORKER_NAMES:
        assert airflow[name]["hostname"] == name
        # Here each has a machine of its own, and so a name.
        options = [part for part in local[name] if part not in ("--celery-hostname", name)]
        assert options[options.index("celery") :] == airflow[name]["command"]
        slots = airflow[name]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"]
        assert len(WORKER_NAMES) * int(slots) == int(airflow[name]["environment"]["AIRFLOW__CORE__PARALLELISM"])


def test_airflow_sees_the_folders_of_the_project_and_cannot_change_them(
    airflow: dict[str, Service], root: Path
) -> None:
    for service in airflow.values():
        mounts = [str(volume).split(":") for volume in service["volumes"]]
        folders = {source.removeprefix("./"): (target, mode) for source, target, *mode in mounts if source[0] == "."}
        assert folders == {name: (f"{PROJECT}/{name}", ["ro"]) for name in ("dags", "plugins", "include")}
        assert all((root / name).is_dir() for name in folders)


def test_emulator_is_told_what_it_is_told_here(services: dict[str, Service]) -> None:
    here = emulator_command(4566, Path("/scratch")).environment
    told = set(here) - set(clean_environment()) - {"TMPDIR"}
    there = services["emulator"]["environment"]
    assert set(there) == told
    for name in told - {"BIND_HOST", "MINISTACK_HOST", "S3_DATA_DIR"}:
        assert str(there[name]) == here[name]


def test_every_secret_of_the_file_is_demanded_and_made_by_the_command(text: str, secrets: dict[str, str]) -> None:
    demanded = SECRET.findall(text)
    assert {name for name, _ in demanded} == set(secrets)
    assert {told for _, told in demanded} == {f"run '{MAKE_SECRETS}'"}
    spelt = re.findall(r"^\s+(\w*(?:PASSWORD|SECRET|_KEY|AUTH|_KEY_ID)): (.*)$", text, re.MULTILINE)
    assert {name for name, value in spelt if not SECRET.search(value)} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_without_secrets_the_client_says_how_to_make_them(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.env"
    empty.touch()
    answer = config(root, empty)
    assert answer.returncode != 0
    assert MAKE_SECRETS in answer.stderr


def test_secrets_are_given_only_to_who_needs_them(services: dict[str, Service]) -> None:
    of_aws = {"AWS_ENDPOINT_URL": "http://emulator:4566"} | dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"
    )
    told = services["deploy"]["environment"]
    assert {name for name in told if not name.startswith("AWS_")} == set(DEPLOY_SECRETS)
    assert of_aws.items() <= told.items()
    assert set(services["seed"]["environment"]) == {"SQL_ADMIN_PASSWORD", "SQL_READER_PASSWORD"}


def test_every_port_is_open_to_this_machine_only(services: dict[str, Service]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {
        "api-server": ["127.0.0.1:8080:8080"],
        "emulator": ["127.0.0.1:4566:4566"],
        "partners": ["127.0.0.1:8200:8200"],
    }


def test_what_stays_is_watched_and_restarted_and_what_ends_is_not(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
        assert ("healthcheck" in service) == (name not in ONE_SHOT)
        assert "mem_limit" in service


def test_everything_waits_for_what_it_needs(services: dict[str, Service], airflow: dict[str, Service]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            ends = needed in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
    assert set(services["migrate"]["depends_on"]) == {"postgres"}
    for name in set(airflow) - {"migrate"}:
        assert set(airflow[name]["depends_on"]) == {"migrate", "redis", "deploy", "seed"}


def test_an_image_is_built_once_and_never_asked_of_a_registry(services: dict[str, Service]) -> None:
    for image, builder in (("pipelines-airflow", "migrate"), ("pipelines-tools", "emulator")):
        users = {name: service for name, service in services.items() if service["image"] == image}
        assert [name for name, service in users.items() if "build" in service] == [builder]
        assert {service["pull_policy"] for service in users.values()} == {"never"}


def test_logs_cannot_fill_the_disk(services: dict[str, Service]) -> None:
    for service in services.values():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_no_check_of_health_starts_an_airflow(services: dict[str, Service]) -> None:
    checks = [str(service["healthcheck"]["test"]) for service in services.values() if "healthcheck" in service]
    assert not [check for check in checks if "airflow " in check or "celery_executor" in check]


def test_images_have_the_versions_that_are_pinned(root: Path, services: dict[str, Service]) -> None:
    pins = dict(
        line.split("==") for line in (root / "requirements" / "local.txt").read_text().splitlines() if "==" in line
    )
    python = (root / ".python-version").read_text().strip()
    builds = {
        Path(service["build"]["dockerfile"]).name: service["build"]
        for service in services.values()
        if "build" in service
    }
    airflow, tools = builds["airflow.Dockerfile"], builds["tools.Dockerfile"]
    airflow_image, tools_image = ((root / build["dockerfile"]).read_text() for build in (airflow, tools))
    assert all("ARG BASE\nFROM ${BASE}\n" in image for image in (airflow_image, tools_image))
    version = pins["apache-airflow"]
    assert airflow["args"] == [f"BASE=apache/airflow:{version}-python{python}"]
    assert f'"apache-airflow=={version}"' in airflow_image
    assert tools["args"][0].startswith(f"BASE=python:{python}-slim-")
    assert "--no-deps --require-hashes --requirement requirements/hashed/emulator.txt" in tools_image
    assert "ministack==" in (root / "requirements" / "emulator.txt").read_text()
    major = services["postgres"]["image"].removeprefix("postgres:")
    assert f'"pginstall{major}"' in (root / "local" / "services" / "postgres.py").read_text()
    assert services["sqlserver"]["image"] == "mcr.microsoft.com/mssql/server:2022-latest"


def test_every_image_of_others_can_be_given_by_its_digest(text: str) -> None:
    named = re.findall(r"^ +(?:image|BASE): (\S+)$", text, re.MULTILINE)
    ours = [name for name in named if name.startswith("pipelines-")]
    assert len(named) - len(ours) == 5
    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z./]+:[\w.-]+\}", name) for name in named if name not in ours)


def test_images_are_given_every_file_that_they_copy(root: Path, services: dict[str, Service]) -> None:
    given = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for service in services.values():
        if "build" not in service:
            continue
        dockerfile = root / service["build"]["dockerfile"]
        for source in re.findall(r"^COPY (\S+)", dockerfile.read_text(), re.MULTILINE):
            assert (root / source).exists()
            assert source.split("/")[0] in given
    assert given <= set(READ), "local.compose.env sees whether they can be read"
