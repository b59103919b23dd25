"""What Airflow makes of a project, asked in a process of its own that sees what MWAA would see of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.release.bundle import ReleaseError

PROBE = "infra.release.probe"
PROBE_SECONDS = 180
"""It takes about five; a DAG file that never ends is found by then."""


@dataclass(frozen=True, slots=True)
class Airflow:
    """What :mod:`infra.release.probe` found.

    Args:
        parse_seconds: CPU seconds that a DAG file takes, by its stem; without those that ended their process.
        api_server: modules that an API server has in memory once its plugins are loaded: top-level ones, and all of
            the project.
        plugins: ``names`` of the registered plugins, ``errors`` of those that were not, and ``strays``: modules that
            the scan ran under a name that is not their own, with their files.
        dags: by the stem of their file ``errors``, and ``dags``: their limits by DAG id.
        modules: errors of the modules that cannot be imported, by dotted name.
        constants: numbers of ``include`` and ``airflow_ext``, by dotted name.
        settings: ``default``, ``least`` and ``most`` of the settings that are numbers, by name.
        clients: time-outs (s), attempts and connections of the clients of AWS, by a short name.
        references: bytes of one reference in an XCom that tasks are mapped over, by ``<dag id>.<task id>``.
        options: Airflow's configuration options that are numbers, by ``<section>.<name>``.
    """

    parse_seconds: Mapping[str, float]
    api_server: Sequence[str]
    plugins: Mapping[str, Any]
    dags: Mapping[str, Any]
    modules: Mapping[str, str]
    constants: Mapping[str, float]
    settings: Mapping[str, Mapping[str, float | None]]
    clients: Mapping[str, Mapping[str, float]]
    references: Mapping[str, int]
    options: Mapping[str, float]


def probe(sources: Mapping[str, bytes], options: Mapping[str, str]) -> Airflow:
    """Load the project into an Airflow of its own, laid out as on MWAA.

    Args:
        sources: contents of the files of ``dags/``, ``plugins/`` and ``include/``, by path.
        options: Airflow's configuration options beside the folders, by ``<section>.<name>``.

    Raises:
        ReleaseError: that Airflow ended without an answer, which it does when what the checks read from is broken.
    """
    with tempfile.TemporaryDirectory(prefix="preflight-") as scratch:
        folder = Path(scratch).resolve()
        for name, content in sources.items():
            # As in plugins.zip: the packages lie beside each other in the plugins folder.
            path = folder / (f"plugins/{name}" if name.startswith("include/") else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # Without the rest of this repository, in which `include` and more are to be had under names that MWAA lacks.
        copied = folder.joinpath("tools", *PROBE.split(".")).with_suffix(".py")
        copied.parent.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("probe.py"), copied)
        output = folder / "found.json"
        try:
            done = subprocess.run(  # noqa: S603 - our own script
                [sys.executable, "-P", "-m", PROBE, str(output)],
                cwd=folder,
                env=_environment(folder, options),
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(
                f"Airflow did not load the project within {PROBE_SECONDS} s: look for an endless loop, or for a call "
                "that waits, at module level of dags/ and plugins/"
            ) from error
        if done.returncode or not output.is_file():
            said = "\n".join((done.stdout + done.stderr).replace(f"{folder}/", "").splitlines()[-15:])
            raise ReleaseError(f"Airflow cannot load the project; the last that it said:\n{said}")
        text = output.read_text().replace(f"{folder}/", "")
    found: dict[str, Any] = json.loads(text)
    return Airflow(**found)


def _environment(folder: Path, options: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    own = {
        "core.dags_folder": str(folder / "dags"),
        "core.plugins_folder": str(folder / "plugins"),
        "core.load_examples": "False",
        # Airflow would look its own name up in the network.
        "core.hostname_callable": "socket.gethostname",
        "database.sql_alchemy_conn": f"sqlite:///{folder}/airflow.db",
        "logging.logging_level": "WARNING",
    }
    named = {f"AIRFLOW__{name.replace('.', '__').upper()}": value for name, value in {**options, **own}.items()}
    return {
        **kept,
        **named,
        "HOME": str(folder),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join([str(folder / "plugins"), str(folder / "tools")]),
    }
