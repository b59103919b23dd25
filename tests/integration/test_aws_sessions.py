"""Sessions that the provider takes from the plugins: of connections that name a role, and of the secrets backend."""

import json
import subprocess
import sys
from pathlib import Path

from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from airflow_ext.hooks.aws import SharedSessionFactory
from local.processes.layout import DUMMY_AWS_KEY, PROJECT_ROOT, REGION, clean_environment
from tests.integration.conftest import Aws


def test_a_connections_role_is_assumed_with_its_own_credentials(emulator: str) -> None:
    extra = {
        "aws_access_key_id": "300000000000",
        "aws_secret_access_key": DUMMY_AWS_KEY,
        "region_name": REGION,
        "role_arn": "arn:aws:iam::300000000000:role/reader",
        "service_config": {"sts": {"endpoint_url": emulator}},
    }
    wrapper = AwsConnectionWrapper.from_connection_metadata(conn_id="with_role", extra=extra)
    session = SharedSessionFactory(conn=wrapper).create_session()
    credentials = session.get_credentials().get_frozen_credentials()
    assert credentials.access_key != extra["aws_access_key_id"]
    assert credentials.token
    caller = session.client("sts", endpoint_url=emulator).get_caller_identity()
    assert session.region_name == REGION
    assert "Arn" in caller


READ = """
import json, sys
from airflow import settings
from airflow.providers.amazon.aws.hooks import base_aws
from airflow.sdk import Connection, Variable
read = [Variable.get("settings"), Connection.get("dex_api").login, Variable.get("settings")]
print("read", json.dumps([*read, base_aws.SessionFactory.__module__]))
"""


def test_variables_and_connections_are_read_through_shared_sessions(emulator: str, tmp_path: Path) -> None:
    account = Aws(emulator, "300000000001", Path())
    account.secrets.create_secret(Name="airflow/variables/settings", SecretString="from Secrets Manager")
    account.secrets.create_secret(
        Name="airflow/connections/dex_api", SecretString='{"conn_type": "http", "login": "me"}'
    )
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env={
            **clean_environment(),
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
            "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__AWS__SESSION_FACTORY": "airflow_ext.hooks.aws.SharedSessionFactory",
            "AIRFLOW__SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"endpoint_url": emulator, "region_name": REGION}),
            "PYTHONPATH": str(PROJECT_ROOT),
            "AWS_ACCESS_KEY_ID": account.account,
            "AWS_SECRET_ACCESS_KEY": DUMMY_AWS_KEY,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("read ")]
    assert found, done.stdout + done.stderr
    assert json.loads(found[0].removeprefix("read ")) == [
        "from Secrets Manager",
        "me",
        "from Secrets Manager",
        "airflow_ext.hooks.aws",
    ]
