"""Airflow around a task: task instances, contexts, metadata database, secrets backend, masked secrets."""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied, AirflowSkipException

DAG_ID = "dex_trigger_archive"
"""Of a run that names no other."""


@dataclass
class XComs:
    """The XComs of one run; those of the keys ``refused`` are not taken, as if Airflow's database were down."""

    values: dict[tuple[str, str, int | None], Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    def push(self, task_id: str, key: str, map_index: int | None, value: Any) -> None:
        """Take an entry; as Airflow's database does, refuse one with a control character or half a surrogate pair."""
        text = json.dumps(value, ensure_ascii=False)
        if key in self.refused or re.search("[\ud800-\udfff]|\\\\u00(?!0[9ad])[01]", text):
            raise RuntimeError(f"API server answered 422: XCom {key!r}")
        self.values[task_id, key, map_index] = value


@dataclass
class FakeTaskInstance:
    """Pushes to and pulls from the run's XComs."""

    xcoms: XComs
    task_id: str
    map_index: int | None = None
    log_url: str = "http://airflow.test/log"
    states: dict[str, dict[str, str | None]] = field(default_factory=dict)
    dag_id: str = DAG_ID
    try_number: int = 1
    max_tries: int = 5
    runs: dict[str, str] = field(default_factory=dict)

    def get_dr_count(self, dag_id: str, *, run_ids: list[str], states: list[str] | None = None) -> int:
        """As the API server answers: how many of these runs there are, in these states."""
        return sum(run_id in run_ids and state in (states or [state]) for run_id, state in self.runs.items())

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.push(self.task_id, str(key), self.map_index, value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return self.xcoms.values.get((task_ids, str(key), map_indexes))

    def get_task_states(
        self, dag_id: str, *, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str | None]]:
        """As the API server answers: by run and task, a mapped task as ``<task id>_<map index>``."""
        assert dag_id == self.dag_id
        return {
            run_id: {
                name: state for name, state in states.items() if name in task_ids or name.rpartition("_")[0] in task_ids
            }
            for run_id, states in self.states.items()
            if run_id in run_ids
        }


@dataclass
class FakeRun:
    """Makes the contexts of the tasks of one run, and knows their states."""

    run_id: str = "manual__2026-03-08T06:00:00+00:00"
    run_type: str = "manual"
    logical_date: datetime | None = None
    run_after: datetime = datetime(2026, 3, 8, 6, tzinfo=UTC)
    start_date: datetime | None = None
    clear_number: int = 0
    params: dict[str, Any] = field(default_factory=lambda: {"trigger_date": None, "client_ids": None, "force": False})
    conf: dict[str, Any] = field(default_factory=dict)
    xcoms: XComs = field(default_factory=XComs)
    outlet_events: dict[Any, Any] = field(default_factory=lambda: defaultdict(SimpleNamespace))
    states: dict[str, str | None] = field(default_factory=dict)
    dag_id: str = DAG_ID
    other_runs: dict[str, str] = field(default_factory=dict)

    def context(self, task_id: str, map_index: int | None = None, *, try_number: int = 1) -> Context:
        """The context of one task."""
        return {
            "ti": FakeTaskInstance(
                self.xcoms,
                task_id,
                map_index,
                states={self.run_id: self.states},
                dag_id=self.dag_id,
                try_number=try_number,
                runs=self.other_runs,
            ),
            "dag": SimpleNamespace(dag_id=self.dag_id, params=dict(self.params)),
            "dag_run": SimpleNamespace(
                run_id=self.run_id,
                run_type=self.run_type,
                logical_date=self.logical_date,
                run_after=self.run_after,
                start_date=self.start_date,
                clear_number=self.clear_number,
                conf=self.conf,
            ),
            "run_id": self.run_id,
            "params": self.params,
            "outlet_events": self.outlet_events,
        }

    @contextmanager
    def task(self, task_id: str, map_index: int | None = None, *, try_number: int = 1) -> Iterator[Context]:
        name = task_id if map_index is None else f"{task_id}_{map_index}"
        self.states[name] = "failed"
        try:
            yield self.context(task_id, map_index, try_number=try_number)
        except AirflowSkipException:
            self.states[name] = "skipped"
            raise
        self.states[name] = "success"

    def pushed(self, task_id: str, key: str, map_index: int | None = None) -> Any:
        """What a task pushed, or None."""
        return self.xcoms.values.get((task_id, str(key), map_index))


@functools.cache
def create_airflow_database() -> None:
    """Create the tables, once a session."""
    from airflow import settings
    from airflow.utils.db import initdb

    settings.configure_orm()
    initdb()


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
