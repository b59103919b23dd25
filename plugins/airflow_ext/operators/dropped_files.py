"""Waits for files of call details."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_ext.ids import AWS_CONNECTION
from airflow_ext.triggers.dropped_files import DroppedFileTrigger, file_is_there, open_store

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings


class DroppedFileSensor(S3KeySensor):
    """Waits in the triggerer until a file lies under the setting ``incoming_prefix`` of ``ingest_bucket``.

    Folder markers and uploads under way (setting ``ignored_names``) do not count: they stay, so the sensor would find
    them at once every time.

    A time-out is a success: that nothing was dropped is no failure, and the next task starts what earlier rounds have
    left. ``soft_fail`` would skip the next task, and would hide a trigger that crashed.

    Args:
        kwargs: of the base class; ``timeout`` is how long to wait.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(bucket_key="*", wildcard_match=True, deferrable=True, aws_conn_id=AWS_CONNECTION, **kwargs)

    def poke(self, context: Context) -> bool:
        """Whether a file is there."""
        settings = self._settings()
        return file_is_there(open_store(settings.ingest_bucket), settings.incoming)

    def _defer(self) -> None:
        settings = self._settings()
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

    def _settings(self) -> Settings:
        from airflow_ext.settings import call_details_settings

        return call_details_settings()
