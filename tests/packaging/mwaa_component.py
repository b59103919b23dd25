"""A component of Airflow on MWAA, as far as loading the bundle goes. A script of its own: it imports nothing of ours.

``python -P mwaa_component.py dag-processor OUT`` loads the DAG files; ``python -P mwaa_component.py triggerer OUT IN``
does what a component without DAG files has to, with what the first one found. Both scan the plugins as they start;
``scan`` does nothing else.
"""

import importlib
import importlib.metadata
import json
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

PLUGINS = Path(os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def start() -> dict[str, Any]:
    """What every component does first."""
    importlib.import_module("airflow")
    at_once = "pipelines_plugin" in sys.modules
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    found = plugins_manager.get_plugin_info(["name", "source"])
    return {
        "plugin_loaded_at_once": at_once,
        "plugins": [plugin["name"] for plugin in found if "$PLUGINS_FOLDER" in str(plugin["source"])],
        "plugin_errors": plugins_manager.get_import_errors(),
        "run_by_the_scan": run_by_the_scan(),
        "session_factory": session_factory(),
    }


def session_factory() -> str:
    """The class that the provider's hooks and secrets backend take their sessions from."""
    found = importlib.import_module("airflow.providers.amazon.aws.hooks.base_aws").SessionFactory
    return f"{found.__module__}.{found.__qualname__}"


def run_by_the_scan() -> dict[str, str]:
    """Files of the plugins folder that are in memory under a name that is not their own."""
    found = {}
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(PLUGINS):
            path = Path(file).relative_to(PLUGINS)
            if name != ".".join(path.with_suffix("").parts).removesuffix(".__init__"):
                found[name] = str(path)
    return found


def load_dags() -> dict[str, Any]:
    """Load every DAG file, and store the DAGs as the DAG processor does."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    there = set(sys.modules)
    bag = DagBag(dag_folder=str(DAGS))
    imported = sorted(name for name in set(sys.modules) - there if name.startswith(("airflow.sdk.", "airflow_ext.")))
    stored = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in bag.dags.items()}
    return {
        "files": {dag_id: str(Path(dag.fileloc).relative_to(DAGS)) for dag_id, dag in bag.dags.items()},
        "import_errors": bag.import_errors,
        "imported_by_dags": imported,
        "stored": stored,
        "watched_by": stored_paths(list(stored.values())),
        "triggers": trigger_classes(),
    }


def trigger_classes() -> list[str]:
    """The paths by which Airflow stores the triggers of ours."""
    from airflow.triggers.base import BaseTrigger

    package = importlib.import_module("airflow_ext.triggers")
    found = []
    for info in pkgutil.iter_modules(package.__path__, "airflow_ext.triggers."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, BaseTrigger) and value.__module__ == info.name:
                found.append(f"{value.__module__}.{value.__qualname__}")
    return found


def stored_paths(stored: Any) -> list[str]:
    """The paths of triggers, such as those that assets are watched by, anywhere in a stored DAG."""
    if isinstance(stored, dict):
        own = [stored["classpath"]] if "classpath" in stored else []
        return own + [path for value in stored.values() for path in stored_paths(value)]
    return [path for value in stored for path in stored_paths(value)] if isinstance(stored, list) else []


def do_without_dags(found: dict[str, Any]) -> dict[str, Any]:
    """Import the triggers, and read the stored DAGs, as triggerer, scheduler and API server do."""
    from airflow._shared.module_loading import import_string
    from airflow.serialization.serialized_objects import DagSerialization

    triggers = [import_string(path).__module__ for path in found["triggers"] + found["watched_by"]]
    timetables = {
        dag_id: type(DagSerialization.from_dict(stored).timetable).__module__
        for dag_id, stored in found["stored"].items()
    }
    return {"triggers": triggers, "timetables": timetables}


def import_all() -> dict[str, Any]:
    """Import every module of the bundle's packages by its name."""
    errors, names = {}, []
    for package in ("airflow_ext", "include"):
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda name: None):
            names.append(info.name)
            try:
                importlib.import_module(info.name)
            except Exception as error:  # noqa: BLE001 - whatever a module raises is told
                errors[info.name] = f"{type(error).__name__}: {error}"
    return {"modules": names, "module_errors": errors}


def main(role: str, output: str, *given: str) -> None:
    """Be a component, and write what was seen."""
    seen = start()
    if role == "scan":
        # A bundle of which this alone is to be seen may be too broken for the rest.
        Path(output).write_text(json.dumps(seen))
        return
    if role == "dag-processor":
        seen |= load_dags()
    else:
        seen |= do_without_dags(json.loads(Path(given[0]).read_text()))
    seen |= import_all()
    seen |= {
        "run_in_the_end": run_by_the_scan(),
        "sys_path": sys.path,
        "loaded_from": sorted(
            {str(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
        ),
        "installed": [[found.name, found.version] for found in importlib.metadata.distributions()],
    }
    Path(output).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
