"""When the virtual environment that stands in for MWAA's image is made again. What is in it: test_bundle_on_mwaa.py."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from infra.release.bundle import ReleaseError
from infra.release.mwaa_image import IMAGE, Installed, fingerprint, install, installed

LISTS = (str(IMAGE), "requirements.txt", "requirements/constraints.txt")


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    project = tmp_path / "project"
    shutil.copytree(root / "requirements", project / "requirements")
    shutil.copy(root / "requirements.txt", project)
    (project / IMAGE).parent.mkdir(parents=True)
    shutil.copy(root / IMAGE, project / IMAGE)
    return project


def record(venv: Path, found: Installed) -> None:
    venv.mkdir()
    (venv / "installed.json").write_text(json.dumps(asdict(found)))


def test_environment_made_from_these_lists_is_kept(project: Path, tmp_path: Path) -> None:
    found = Installed(fingerprint(project), {"a": "1"}, {"a": "1", "b": "2"})
    record(tmp_path / "venv", found)
    assert install(project, tmp_path / "venv") == found


@pytest.mark.parametrize("name", LISTS)
def test_environment_is_made_again_when_a_list_has_changed(name: str, project: Path, tmp_path: Path) -> None:
    record(tmp_path / "venv", Installed(fingerprint(project), {}, {}))
    (project / name).write_text((project / name).read_text() + "# changed\n")
    with pytest.raises(ReleaseError, match="dags holds no files"):
        install(project, tmp_path / "venv")


def test_installation_that_did_not_come_to_an_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert installed(tmp_path) is None


def test_requirements_without_constraints_are_refused_before_anything_is_installed(project: Path) -> None:
    (project / "requirements.txt").write_text("standardwebhooks==1.1.0\n")
    with pytest.raises(ReleaseError, match="make it --constraint"):
        fingerprint(project)
