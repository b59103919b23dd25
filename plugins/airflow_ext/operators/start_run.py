"""Starts runs of another DAG."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator


class StartRunOperator(TriggerDagRunOperator):
    """As its base class, but nothing of it is a template.

    A run's configuration holds what others have chosen, such as the key of a file; braces in it are no instructions.
    """

    template_fields: Sequence[str] = ()
