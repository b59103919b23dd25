"""Starts the runs of dropped files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from airflow_ext.ids import CALL_DETAILS_INGEST
from include.text import printable

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_LABEL = 250
"""What Airflow's table takes as the name of a mapped task; a longer one fails the task after its work is done."""


class StartRunOperator(TriggerDagRunOperator):
    """Starts one of the runs that a round of the watcher has listed.

    Nothing of it is a template: a run's configuration holds text of others, such as a file's key, and braces in it
    must not be rendered.

    Args:
        index: of the run in the list.
        kwargs: of the base class.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, index: int, **kwargs: Any) -> None:
        # Without a logical date: its default is the present time, and two runs of one time are taken for the same.
        super().__init__(trigger_dag_id=CALL_DETAILS_INGEST, logical_date=None, skip_when_already_exists=True, **kwargs)
        self.index = index

    def execute(self, context: Context) -> None:
        """Start it, unless it is there."""
        from airflow_ext.tasks.call_details_watch import read_start

        start = read_start(context, self.index)
        self.trigger_run_id, self.conf = start["trigger_run_id"], start["conf"]
        self.reset_dag_run, self.note = start["reset_dag_run"], start["note"]
        super().execute(context)

    @property
    def label(self) -> str:
        """What the UI shows, for ``map_index_template``: the end of the file's key, which tells files apart."""
        conf: dict[str, Any] = self.conf or {}
        return printable(str(conf.get("key", self.index)))[-MAX_LABEL:]
