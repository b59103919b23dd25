"""The bundle, unpacked where there is nothing else, in what MWAA's image and requirements.txt bring."""

import json
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.release.bundle import ARCHIVE, REQUIREMENTS, write_bundle
from infra.release.mwaa_image import IMAGE, VENV, Installed, fingerprint, installed
from tests.packaging.test_requirements import LACKING_ON_MWAA, lines, name_of, pins

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = Path(__file__).with_name("mwaa_component.py")


@dataclass(frozen=True)
class Unpacked:
    """The bundle as it lies on MWAA."""

    bundle: Path
    plugins: Path
    work: Path

    def run(self, *arguments: str, dags: Path, lazy: bool) -> dict[str, Any]:
        """Start a component of Airflow in an environment of its own, and say what it saw."""
        output = self.work / f"{arguments[0]}.json"
        done = subprocess.run(
            [VENV / "bin/python", "-P", COMPONENT, arguments[0], output, *arguments[1:]],
            cwd=self.work,
            env={
                "PATH": os.defpath,
                "HOME": str(self.work),
                "AIRFLOW_HOME": str(self.work),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.plugins),
                "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": str(lazy),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__AWS__SESSION_FACTORY": "airflow_ext.hooks.aws.SharedSessionFactory",
                # Airflow would look its own name up in the network.
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(output.read_text())


def unpack(folder: Path) -> Unpacked:
    """Build the bundle, and unpack it as MWAA does."""
    unpacked = Unpacked(folder / "bundle", folder / "plugins", folder / "work")
    unpacked.work.mkdir()
    write_bundle(ROOT, unpacked.bundle)
    with zipfile.ZipFile(unpacked.bundle / ARCHIVE) as archive:
        archive.extractall(unpacked.plugins)
    return unpacked


@pytest.fixture(scope="module")
def image() -> Installed:
    """What the virtual environment holds, which stands in for MWAA's image."""
    found = installed(VENV)
    if found is None or found.fingerprint != fingerprint(ROOT):
        pytest.fail(
            f"{VENV.name} is missing, or older than the lists that it is made from: "
            "run .venv/bin/python -m infra.release.mwaa_image"
        )
    return found


@pytest.fixture(scope="module")
def unpacked(image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    return unpack(tmp_path_factory.mktemp("mwaa"))


@pytest.fixture(scope="module")
def dag_processor(unpacked: Unpacked) -> dict[str, Any]:
    """Loads the plugins as it imports Airflow; from there on both components begin in the same way."""
    return unpacked.run("dag-processor", dags=unpacked.bundle / "dags", lazy=False)


@pytest.fixture(scope="module")
def triggerer(unpacked: Unpacked, dag_processor: dict[str, Any]) -> dict[str, Any]:
    """A component that has no DAG files, as the API server has none either; it loads the plugins when asked for."""
    nothing = unpacked.work / "no-dags"
    nothing.mkdir()
    return unpacked.run("triggerer", str(unpacked.work / "dag-processor.json"), dags=nothing, lazy=True)


@pytest.fixture(params=["dag_processor", "triggerer"])
def component(
    request: pytest.FixtureRequest, dag_processor: dict[str, Any], triggerer: dict[str, Any]
) -> dict[str, Any]:
    """Either of them."""
    return {"dag_processor": dag_processor, "triggerer": triggerer}[request.param]


def test_image_has_what_its_list_names_and_nothing_that_the_list_for_mwaa_says_it_lacks(
    root: Path, image: Installed
) -> None:
    named = {name_of(line.partition("=")[0].partition("[")[0]) for line in lines(root / IMAGE)}
    assert named <= set(image.image)
    assert set(image.image) & LACKING_ON_MWAA == set()
    constraints = pins(ROOT / "requirements/constraints.txt")
    assert {name: constraints.get(name, version) for name, version in image.image.items()} == image.image


def test_requirements_add_packages_and_change_none_of_the_image_s(image: Installed) -> None:
    assert {name: image.all.get(name) for name in image.image} == image.image
    assert set(pins(ROOT / REQUIREMENTS)) <= image.all.keys() - image.image.keys()


def test_nothing_was_installed_beside_image_and_requirements(component: dict[str, Any], image: Installed) -> None:
    assert {name_of(name): version for name, version in component["installed"]} == image.all


def test_every_dag_file_loads_as_the_dag_of_its_name(dag_processor: dict[str, Any]) -> None:
    files = {path.stem: path.name for path in (ROOT / "dags").glob("*.py")}
    assert files, "these tests would test nothing"
    assert dag_processor["files"] == files
    assert dag_processor["import_errors"] == {}


def test_plugin_is_registered_once(component: dict[str, Any]) -> None:
    assert component["plugins"] == ["pipelines"]
    assert component["plugin_errors"] == {}


def test_plugin_is_loaded_as_a_component_starts_unless_set_otherwise(
    dag_processor: dict[str, Any], triggerer: dict[str, Any]
) -> None:
    # Importing Airflow starts the scan in any process whose option says so.
    assert (dag_processor["plugin_loaded_at_once"], triggerer["plugin_loaded_at_once"]) == (True, False)


def test_dag_files_import_nothing_that_the_plugin_did_not_import_for_all_tasks(dag_processor: dict[str, Any]) -> None:
    # Each task would: it parses its file in a fork of its worker.
    assert dag_processor["imported_by_dags"] == []


def test_secrets_and_hooks_take_their_sessions_from_the_plugins(component: dict[str, Any]) -> None:
    assert component["session_factory"].startswith("airflow_ext.hooks.aws.")


def test_plugin_scan_runs_no_module_under_another_name(component: dict[str, Any]) -> None:
    assert component["run_by_the_scan"] == {}
    assert component["run_in_the_end"] == {}


def test_every_module_of_the_bundle_can_be_imported(component: dict[str, Any], unpacked: Unpacked) -> None:
    files = [
        path.relative_to(unpacked.plugins)
        for package in ("airflow_ext", "include")
        for path in (unpacked.plugins / package).rglob("*.py")
    ]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    for kind in ("hooks", "notifications", "operators", "tasks", "timetables", "triggers"):
        assert f"airflow_ext.{kind}" in names
    assert set(component["modules"]) == names - {"airflow_ext", "include"}
    assert component["module_errors"] == {}


def test_nothing_comes_from_the_checkout(component: dict[str, Any], unpacked: Unpacked) -> None:
    strange = [
        path
        for path in component["sys_path"] + component["loaded_from"]
        if Path(path).is_relative_to(ROOT) and not Path(path).is_relative_to(VENV) and Path(path) != COMPONENT
    ]
    assert strange == []
    assert str(unpacked.plugins / "include/errors.py") in component["loaded_from"]


def test_triggers_and_timetables_are_found_where_there_are_no_dag_files(
    dag_processor: dict[str, Any], triggerer: dict[str, Any]
) -> None:
    assert not any("dags" in Path(path).parts for path in triggerer["sys_path"])
    assert "airflow_ext.triggers.sqs_wakeup.EventQueueTrigger" in dag_processor["watched_by"]
    assert "airflow_ext.triggers.lambda_result.LambdaResultTrigger" in dag_processor["triggers"]
    assert len(triggerer["triggers"]) == len(dag_processor["triggers"] + dag_processor["watched_by"])
    assert triggerer["timetables"].keys() == dag_processor["files"].keys()
    assert triggerer["timetables"]["dex_trigger_archive"] == "airflow_ext.timetables"


def test_without_its_ignore_file_the_scan_would_run_everything(image: Installed, tmp_path: Path) -> None:
    """Or the tests above would not notice."""
    unpacked = unpack(tmp_path)
    (unpacked.plugins / ".airflowignore").unlink()
    seen = unpacked.run("scan", dags=unpacked.bundle / "dags", lazy=True)
    assert seen["run_by_the_scan"]["errors"] == "include/errors.py"
    assert set(seen["run_by_the_scan"]) > {"errors", "s3", "settings", "timetables"}
