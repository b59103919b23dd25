"""Probe a project: ``python -P -m infra.release.probe OUTPUT``, in an interpreter that knows the project only.

``AIRFLOW__CORE__DAGS_FOLDER`` and ``AIRFLOW__CORE__PLUGINS_FOLDER`` are set, the plugins folder is on ``PYTHONPATH``
and ``include/`` within it, as on MWAA. Writes one JSON object to the file ``OUTPUT``. Nothing of this repository is
imported but this package and what is probed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from infra.release.probe.dag_files import parse_seconds, probe_dags, probe_plugins
from infra.release.probe.numbers import clients, constants, import_all, references, settings_fields

OPTIONS = (
    ("core", "max_map_length"),
    ("core", "parallelism"),
    ("core", "dagbag_import_timeout"),
    ("core", "max_active_tasks_per_dag"),
    ("core", "default_pool_task_slot_count"),
    ("triggerer", "capacity"),
)


def main(output: Path) -> None:
    """Probe the project and write what was found."""
    dags = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    plugins = Path(os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    # First: what is measured must not find in memory what the rest imports.
    seconds = parse_seconds(dags)
    found = {
        "parse_seconds": seconds,
        "plugins": probe_plugins(plugins),
        "dags": probe_dags(dags),
        "modules": import_all(),
        "constants": constants(),
        "settings": settings_fields(),
        "clients": clients(),
        "references": references(),
        "options": {f"{section}.{name}": option(section, name) for section, name in OPTIONS},
    }
    output.write_text(json.dumps(found))


def option(section: str, name: str) -> float:
    """A configuration option that is a number."""
    from airflow.sdk.configuration import conf

    return float(conf.getfloat(section, name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
