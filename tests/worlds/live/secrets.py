"""The stack's secrets, changed as an operator would change them, and put back."""

import json
from typing import Any

from local.stack.description import Stack

DEX_API = "airflow/connections/dex_api"
DEX_DB = "airflow/connections/dex_db"
SLACK = "airflow/connections/slack_alerts"

PLANTED = "planted-7f3a91c5"
"""Part of every secret that a test makes up: whoever finds it in a log has found a leak."""


class Secrets:
    """Changes secrets; :meth:`restore` undoes all of it."""

    def __init__(self, stack: Stack) -> None:
        self._client = stack.aws("secretsmanager")
        self._before: dict[str, str] = {}
        self._deleted: set[str] = set()

    def read(self, name: str) -> dict[str, Any]:
        return json.loads(self.text(name))

    def text(self, name: str) -> str:
        return str(self._client.get_secret_value(SecretId=name)["SecretString"])

    def put(self, name: str, value: dict[str, Any] | str) -> None:
        """Replace the secret by a JSON object, or by a text as it is."""
        self._keep(name)
        self._back(name)
        text = value if isinstance(value, str) else json.dumps(value)
        self._client.put_secret_value(SecretId=name, SecretString=text)

    def change(self, name: str, **fields: Any) -> None:
        """Replace fields of the secret's JSON object; None removes one."""
        document = self.read(name) | fields
        self.put(name, {field: value for field, value in document.items() if value is not None})

    def delete(self, name: str) -> None:
        """Delete the secret; AWS keeps it for the recovery window."""
        self._keep(name)
        self._client.delete_secret(SecretId=name, RecoveryWindowInDays=7)
        self._deleted.add(name)

    def restore(self, *names: str) -> None:
        """Put these secrets back as they were, or all of them."""
        for name in names or tuple(self._before):
            self.put(name, self._before[name])

    def _keep(self, name: str) -> None:
        if name not in self._before:
            self._before[name] = self.text(name)

    def _back(self, name: str) -> None:
        if name in self._deleted:
            self._client.restore_secret(SecretId=name)
            self._deleted.discard(name)
