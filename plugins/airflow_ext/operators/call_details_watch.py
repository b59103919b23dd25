"""Waits for files of call details, and starts their runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_ext.ids import AWS_CONNECTION, CALL_DETAILS_INGEST
from airflow_ext.settings import call_details_settings
from airflow_ext.triggers.dropped_files import DroppedFileTrigger, file_is_there, open_store
from include.text import printable


class DroppedFileSensor(S3KeySensor):
    """Waits in the triggerer until a file lies under the setting ``incoming_prefix`` of ``ingest_bucket``.

    Folder markers and uploads under way (setting ``ignored_names``) do not count: they stay, so the sensor would find
    them at once every time.

    A time-out is a success: that nothing was dropped is no failure, and the next task starts what earlier rounds have
    left. ``soft_fail`` would skip the next task, and would hide a trigger that crashed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(bucket_key="*", wildcard_match=True, deferrable=True, aws_conn_id=AWS_CONNECTION, **kwargs)

    def poke(self, context: Context) -> bool:
        """Whether a file is there."""
        settings = call_details_settings()
        return file_is_there(open_store(settings.ingest_bucket), settings.incoming)

    def _defer(self) -> None:
        settings = call_details_settings()
        self.defer(
            timeout=timedelta(seconds=self.timeout),
            trigger=DroppedFileTrigger(
                settings.ingest_bucket, settings.incoming_prefix, list(settings.ignored_names), self.poke_interval
            ),
            method_name="execute_complete",
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Return after a file or a time-out."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            self.log.info("no file was dropped within %s s", self.timeout)
            return None


MAX_LABEL = 250
"""What Airflow's table takes as the name of a mapped task; a longer one fails the task after its work is done."""


class StartRunOperator(TriggerDagRunOperator):
    """Starts one of the runs that a round of the watcher has listed.

    Nothing of it is a template: a run's configuration holds text of others, such as a file's key, and braces in it
    must not be rendered.
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
