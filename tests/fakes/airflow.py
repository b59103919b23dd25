"""A task instance and a context as tasks see them, without Airflow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from airflow.sdk import Context


@dataclass
class XComs:
    """The XComs of one run."""

    values: dict[tuple[str, str, int | None], Any] = field(default_factory=dict)


@dataclass
class FakeTaskInstance:
    """Pushes to and pulls from the run's XComs."""

    xcoms: XComs
    task_id: str
    map_index: int | None = None
    log_url: str = "http://airflow.test/log"

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.values[self.task_id, str(key), self.map_index] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return self.xcoms.values.get((task_ids, str(key), map_indexes))


@dataclass
class FakeRun:
    """Makes the contexts of the tasks of one run."""

    run_id: str = "manual__2026-03-08T06:00:00+00:00"
    logical_date: datetime | None = None
    clear_number: int = 0
    params: dict[str, Any] = field(default_factory=lambda: {"trigger_date": None, "client_ids": None, "force": False})
    xcoms: XComs = field(default_factory=XComs)
    outlet_events: dict[Any, Any] = field(default_factory=lambda: defaultdict(SimpleNamespace))

    def context(self, task_id: str, map_index: int | None = None) -> Context:
        """The context of one task."""
        return cast(
            "Context",
            {
                "ti": FakeTaskInstance(self.xcoms, task_id, map_index),
                "dag": SimpleNamespace(dag_id="dex_trigger_archive"),
                "dag_run": SimpleNamespace(
                    run_id=self.run_id, logical_date=self.logical_date, clear_number=self.clear_number
                ),
                "run_id": self.run_id,
                "params": self.params,
                "outlet_events": self.outlet_events,
            },
        )

    def pushed(self, task_id: str, key: str, map_index: int | None = None) -> Any:
        """What a task pushed, or None."""
        return self.xcoms.values.get((task_id, str(key), map_index))
