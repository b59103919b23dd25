"""Registers what Airflow must know: the timetable of the daily pipelines, run notes, and the operations page."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from airflow_ext.ids import XComKey
from airflow_ext.timetables import BusinessDayTimetable

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

MAX_NOTE = 1000
"""What Airflow's table takes."""


class RunNotes:
    """Gives each run that has ended the note that its last task pushed to XCom.

    A task cannot write its run's note: Airflow's API for tasks has no such call, and its REST API wants the login of a
    user. A listener is called where the run's state is set (scheduler or API server), with the run and its session.
    """

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun) -> None:
        """Copy the note from the run's XCom, unless a person wrote one; never raises."""
        from airflow.models.xcom import XComModel
        from sqlalchemy.orm import object_session

        try:
            session = object_session(dag_run)
            if session is None or (dag_run.dag_run_note is not None and dag_run.dag_run_note.user_id is not None):
                return
            found = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=XComKey.NOTE.value, limit=1)
            if (entry := session.scalar(found)) is not None:
                dag_run.note = "\n".join(XComModel.deserialize_value(entry))[:MAX_NOTE]
        except Exception:
            log.exception("run %s of %s got no note", dag_run.run_id, dag_run.dag_id)

    on_dag_run_failed = on_dag_run_success


_SCRIPT = "ops/static/operations.js"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{}' "
    "stroke-width='2' stroke-linecap='round' stroke-linejoin='round'%3E%3Cpath d='M3 12h4l3-8 4 16 3-8h4'/%3E%3C/svg%3E"
)


class _OperationsApp:
    """The page's routes, made at the first request: no component but the API server ever loads them."""

    @functools.cached_property
    def _app(self) -> Any:
        return importlib.import_module("airflow_ext.operations.app").create_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


class PipelinesPlugin(AirflowPlugin):
    """Airflow refuses to schedule by a timetable class that no plugin registers."""

    name = "pipelines"
    timetables: ClassVar[list[Any]] = [BusinessDayTimetable]
    listeners: ClassVar[list[Any]] = [RunNotes()]
    fastapi_apps: ClassVar[list[Any]] = [{"name": "operations", "app": _OperationsApp(), "url_prefix": "/ops"}]
    react_apps: ClassVar[list[Any]] = [
        {
            "name": "Operations",
            "bundle_url": _SCRIPT,
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "operations",
            "icon": _ICON.format("%23444"),
            "icon_dark_mode": _ICON.format("%23ccc"),
        },
        {"name": "Operations", "bundle_url": _SCRIPT, "destination": "dag", "url_route": "operations-of-dag"},
        {"name": "Tonight", "bundle_url": _SCRIPT, "destination": "dashboard", "url_route": "operations-tonight"},
    ]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import and load what the tasks use, once a worker instead of once a task (0.5 s of CPU each).

        A task is a fork of its worker and inherits what that has in memory. It takes effect where the option
        ``core.lazy_load_plugins`` is False, so that a worker loads its plugins as it starts. The API server runs no
        tasks, and would only grow by 40 MB.
        """
        if sys.argv[1:2] == ["api-server"]:
            return
        # Not in reach of the option logging.namespace_levels, which knows structlog's loggers only.
        logging.getLogger("botocore.credentials").setLevel(logging.WARNING)
        # What ``airflow.sdk.task`` and ``dag`` are loaded from when a DAG file first names them.
        importlib.import_module("airflow.sdk.definitions.decorators")
        importlib.import_module("airflow_ext.tasks.dex_trigger_archive")
        importlib.import_module("airflow_ext.tasks.energy_auction")
        importlib.import_module("airflow_ext.tasks.call_details_ingest")
        importlib.import_module("airflow_ext.operators.call_details_watch")
        importlib.import_module("airflow_ext.operators.energy_auction")
        importlib.import_module("airflow_ext.tasks.event_delivery")
        importlib.import_module("airflow_ext.triggers.lambda_result")
        importlib.import_module("airflow_ext.triggers.sqs_wakeup")
        importlib.import_module("airflow.providers.amazon.aws.hooks.base_aws")
        importlib.import_module("airflow_ext.hooks.aws").preload()
        importlib.import_module("include.clients.connections").tls_context()
        importlib.import_module("include.clients.signed").aws_tls()
