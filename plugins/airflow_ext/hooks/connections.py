"""Read an Airflow Connection with an error that says where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, AirflowSecretsBackendAccessDenied

from include.errors import SettingsError, SettingsUnavailableError

if TYPE_CHECKING:
    from airflow.sdk import Connection


def get_connection(conn_id: str) -> Connection:
    """The Connection ``conn_id``.

    Raises:
        SettingsUnavailableError: there is none, or its store cannot be reached.
        SettingsError: Airflow may not read it.
    """
    where = f"connection '{conn_id}' (Secrets Manager: airflow/connections/{conn_id})"
    try:
        return BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError) as error:
        raise SettingsUnavailableError(
            f"{where} was not found or is not valid JSON, or its store is out of reach; put its JSON there"
        ) from error
    except AirflowSecretsBackendAccessDenied as error:
        raise SettingsError(f"{where} may not be read: check the execution role's permissions") from error
