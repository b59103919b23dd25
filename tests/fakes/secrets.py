"""A store of secrets that denies everything, and Airflow's memory of what it has to mask."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied


class _Denying:
    """Quacks like a secrets backend whose caller lacks the permission."""

    def get_connection(self, conn_id: str, **options: Any) -> Any:
        raise AirflowSecretsBackendAccessDenied(conn_id)

    def get_variable(self, key: str, **options: Any) -> Any:
        raise AirflowSecretsBackendAccessDenied(key)


def deny_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it Airflow's only store for the rest of the test."""
    monkeypatch.setattr(
        "airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded", lambda *arguments: [_Denying()]
    )


def forget_masks() -> None:
    """Let Airflow mask only what is a secret from now on: what one test masks must not change another's texts."""
    reset_secrets_masker()
