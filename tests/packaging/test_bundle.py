"""The bundle for MWAA: what is in it, that it is the same whoever builds it, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from infra.release import bundle
from infra.release.bundle import ARCHIVE, MANIFEST, REQUIREMENTS, Manifest, ReleaseError, write_bundle

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("plugins", "include", "dags")
NEEDED = (*PARTS, "requirements", "requirements.txt", ".gitignore")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sources(part: str) -> dict[str, bytes]:
    found = contents(ROOT / part)
    return {name: body for name, body in found.items() if "__pycache__" not in name}


def archived(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def copy(target: Path) -> Path:
    """The sources without a git repository, as in a source archive."""
    target.mkdir()
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target / name)
    return target


def git(project: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of these sources."""
    folder = tmp_path_factory.mktemp("built") / "dist"
    write_bundle(ROOT, folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy(tmp_path / "project")


def test_archive_holds_the_plugins_at_its_root_and_include_and_the_constraints_beside_them(built: Path) -> None:
    expected = sources("plugins") | {f"include/{name}": body for name, body in sources("include").items()}
    assert {".airflowignore", "pipelines_plugin.py", "airflow_ext/hooks/dex.py", "include/errors.py"} <= expected.keys()
    expected["constraints.txt"] = (ROOT / "requirements/constraints.txt").read_bytes()
    assert archived(built) == expected


def test_requirements_name_the_constraints_where_mwaa_unpacks_the_archive(built: Path) -> None:
    first = (built / REQUIREMENTS).read_text().splitlines()[0]
    assert first == '--constraint "/usr/local/airflow/plugins/constraints.txt"'
    assert "constraints.txt" in archived(built)


def test_dags_and_requirements_are_those_of_the_sources(built: Path) -> None:
    beside = {name: body for name, body in contents(built).items() if name not in (ARCHIVE, MANIFEST)}
    dags = {f"dags/{name}": body for name, body in sources("dags").items()}
    assert beside == dags | {REQUIREMENTS: (ROOT / REQUIREMENTS).read_bytes()}


def files_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / MANIFEST).read_text())["files"]


def test_manifest_has_the_digest_of_every_file(built: Path) -> None:
    files = {name: body for name, body in contents(built).items() if name != MANIFEST}
    assert files_of(built) == {name: sha256(body).hexdigest() for name, body in files.items()}


def test_entries_have_one_time_one_mode_and_one_order(built: Path) -> None:
    with zipfile.ZipFile(built / ARCHIVE) as archive:
        entries = archive.infolist()
    assert {(entry.date_time, entry.external_attr, entry.compress_type, entry.create_system) for entry in entries} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED, 3)
    }
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert not any(name.endswith("/") for name in names)


def test_another_build_elsewhere_gives_the_same_bytes(built: Path, project: Path, tmp_path: Path) -> None:
    """Other times, modes, umask, language, folder, home and leftovers; git's own settings of the user included."""
    for number, path in enumerate(sorted(project.rglob("*"))):
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + 7 * number))
        path.chmod(0o700)
    for part in PARTS:
        (project / part / "__pycache__").mkdir()
        (project / part / "__pycache__/left.cpython-312.pyc").write_bytes(b"left")
        for name in (".left.py.swp", "left.py~", "left.py.orig", "left.pyc", ".DS_Store", "#left.py#", ".#left.py"):
            (project / part / name).write_text("left by a tool")
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/ignore").write_text("*.py\n")
    environment = os.environ | {
        "HOME": str(home),
        "LC_ALL": "C",
        "TZ": "Asia/Kathmandu",
        "PYTHONHASHSEED": "7",
        "GIT_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("XDG_CONFIG_HOME", None)
    output = tmp_path / "elsewhere/dist"
    command = [sys.executable, "-m", "infra.release.bundle", "--project", str(project), "--output", str(output)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, umask=0o077, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{files_of(output)[ARCHIVE][:12]}" in done.stdout
    assert {**contents(built), MANIFEST: b""} == {**contents(output), MANIFEST: b""}
    assert files_of(built) == files_of(output)


def test_manifest_names_the_commit_and_whether_something_was_changed_since(project: Path, tmp_path: Path) -> None:
    def build() -> Manifest:
        return write_bundle(project, tmp_path / "dist")

    without = build()
    assert (without.commit, without.dirty) == (None, None)
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "all")
    clean = build()
    assert (clean.commit, clean.dirty) == (git(project, "rev-parse", "HEAD").strip(), False)
    (project / "include/new.py").write_text('"""New."""\n')
    untracked = build()
    assert (untracked.commit, untracked.dirty) == (clean.commit, True)
    assert "include/new.py" in archived(tmp_path / "dist"), "it would be added"
    (project / "include/new.py").unlink()
    (project / REQUIREMENTS).write_text((project / REQUIREMENTS).read_text() + "# changed\n")
    assert build().dirty is True
    assert clean.files == without.files, "the commit is in the manifest alone"


def test_repository_around_the_project_is_not_the_project_s(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "other").write_text("other")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "other")
    assert write_bundle(copy(tmp_path / "project"), tmp_path / "dist").commit is None


def test_new_bundle_replaces_the_earlier_one(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    write_bundle(project, folder)
    (project / "dags/event_delivery.py").unlink()
    (project / "include/mapped_work.py").unlink()
    manifest = write_bundle(project, folder)
    assert "dags/event_delivery.py" not in manifest.files.keys() | contents(folder).keys()
    assert "include/mapped_work.py" not in archived(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"dist", "project"}, "and nothing is left over"


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    return change


def remove(name: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def link(name: str) -> Callable[[Path], None]:
    return lambda project: (project / name).symlink_to(project / REQUIREMENTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            write(REQUIREMENTS, "standardwebhooks==1.1.0\n"),
            r"the first line is 'standardwebhooks==1\.1\.0'.*make it --constraint ",
        ),
        (write(REQUIREMENTS, ""), r"the first line is ''"),
        (write(REQUIREMENTS, '--constraint "/usr/local/airflow/dags/c.txt"\n'), r"make it --constraint "),
        (remove(REQUIREMENTS), r"requirements\.txt cannot be read"),
        (remove("requirements/constraints.txt"), r"constraints\.txt cannot be read \(No such file"),
        (remove("dags"), r"dags holds no files: is .*project the project's root\?"),
        (remove("include"), r"include holds no files"),
        (write("plugins/constraints.txt", "a==1"), r"plugins/constraints\.txt would lie where another .* rename it"),
        (write("plugins/include/errors.py", ""), r"plugins/include/errors\.py would lie where another"),
        (link("plugins/airflow_ext/linked.py"), r"linked\.py is not a regular file: put the file itself there"),
        (write(".git", "gitdir: nowhere"), r"git rev-parse failed in .*project: fatal"),
    ],
)
def test_sources_that_make_no_bundle_are_refused_and_the_earlier_bundle_stays(
    change: Callable[[Path], None], message: str, project: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dist"
    write_bundle(project, folder)
    before = contents(folder)
    change(project)
    with pytest.raises(ReleaseError, match=message):
        write_bundle(project, folder)
    assert contents(folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"dist", "project"}


def test_folder_that_is_no_bundle_is_left_alone(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write_bundle(project, folder)
    shutil.rmtree(folder)
    write("precious.txt", "mine")(folder)
    with pytest.raises(ReleaseError, match="mine is not an earlier bundle and will not be replaced: name another"):
        write_bundle(project, folder)
    assert contents(folder) == {"precious.txt": b"mine"}


def test_git_that_is_missing_is_asked_for(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReleaseError, match="install git"):
        write_bundle(project, tmp_path / "dist")


def test_command_writes_dist_in_the_project_and_says_what_is_in_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bundle.main(["--project", str(project)]) == 0
    told = capsys.readouterr().out
    for name, digest in json.loads((project / "dist" / MANIFEST).read_text())["files"].items():
        assert name in told
        assert digest[:12] in told
    assert "no git repository" in told


def test_command_that_fails_says_why_and_leaves_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / REQUIREMENTS).unlink()
    assert bundle.main(["--project", str(project)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (project / "dist").exists()


def test_project_that_is_none_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"is .*nowhere the project's root\?"):
        write_bundle(tmp_path / "nowhere", tmp_path / "nowhere/dist")
    assert list(tmp_path.iterdir()) == []


def test_git_ignores_what_is_built(project: Path) -> None:
    write_bundle(project, project / "dist")
    git(project, "init", "--quiet")
    write(".dist-x/bundle/requirements.txt", "")(project)
    write(".venv-mwaa/installed.json", "{}")(project)
    listed = git(project, "ls-files", "--others", "--exclude-standard").splitlines()
    assert REQUIREMENTS in listed
    assert [name for name in listed if name.startswith((".dist-", ".venv-mwaa", "dist/"))] == []
