"""Waits for files of call details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_ext.ids import AWS_CONNECTION

if TYPE_CHECKING:
    from airflow.sdk import Context

FILES = "incoming/*[!/]"
"""Not the folder markers that some consoles make: they stay, so the sensor would find them at once every time."""


class DroppedFileSensor(S3KeySensor):
    """Waits in the triggerer until a file lies under ``incoming/`` of the setting ``ingest_bucket``.

    A time-out is a success: that nothing was dropped is no failure, and the next task starts what earlier rounds have
    left. ``soft_fail`` would skip the next task, and would hide a trigger that crashed.

    Args:
        kwargs: of the base class; ``timeout`` is how long to wait.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(bucket_key=FILES, wildcard_match=True, deferrable=True, aws_conn_id=AWS_CONNECTION, **kwargs)

    def execute(self, context: Context) -> None:
        """Check once, then wait."""
        from airflow_ext.settings import call_details_settings

        self.bucket_name = call_details_settings().ingest_bucket
        super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Return after a file or a time-out."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            self.log.info("no file was dropped within %s s", self.timeout)
            return None
