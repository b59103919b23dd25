"""Starts runs of another DAG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from include.text import printable

MAX_LABEL = 250
"""What Airflow's table takes as the name of a mapped task; a longer one fails the task after its work is done."""


class StartRunOperator(TriggerDagRunOperator):
    """As its base class, but nothing of it is a template.

    A run's configuration holds text of others, such as a file's key; braces in it must not be rendered.
    """

    template_fields: Sequence[str] = ()

    @property
    def label(self) -> str:
        """What the UI shows, for ``map_index_template``: the end of the file's key, which tells files apart."""
        conf: dict[str, Any] = self.conf or {}
        return printable(str(conf["key"]))[-MAX_LABEL:]
