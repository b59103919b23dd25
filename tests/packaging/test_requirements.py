"""The pinned lists: complete, free of addresses, and equal to what Airflow is tested with."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
LISTS = sorted([*REQUIREMENTS.glob("*.txt"), *ROOT.glob("lambdas/*/requirements.txt")])
HASHED = sorted([*REQUIREMENTS.glob("hashed/*.txt"), *ROOT.glob("lambdas/*/requirements.txt")])
"""What is installed: each package with the hashes of its files."""
INPUTS = sorted([*REQUIREMENTS.glob("*.in"), *ROOT.glob("lambdas/*/requirements.in")])
MWAA = ROOT / "requirements.txt"

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[\w,.-]+\])?==(?P<version>[\w.!+-]+)( ?; [^/@:]+)?")
LACKING_ON_MWAA = {
    "apache-airflow-providers-microsoft-mssql",
    "apache-airflow-providers-slack",
    "apache-airflow-providers-common-messaging",
    "apache-airflow-providers-sqlite",
    "pymssql",
    "slack-sdk",
    "standardwebhooks",
}
"""What may be listed for MWAA: its image brings the rest, and another version would break it."""

OWN_PINS = {"emulator"}
"""Lists for virtual environments without Airflow."""


def name_of(text: str) -> str:
    """A package's name as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def lines(path: Path) -> list[str]:
    text = re.sub(r" \\\n +--hash=sha256:[0-9a-f]{64}", "", path.read_text())
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def pins(path: Path) -> dict[str, str]:
    found = {}
    for line in lines(path):
        pin = PIN.fullmatch(line)
        if pin is not None:
            found[name_of(pin["name"])] = pin["version"]
    assert found, f"{path.name} pins nothing"
    return found


def test_the_lists_are_there() -> None:
    assert {path.stem for path in INPUTS if path.parent == REQUIREMENTS} >= {"local", "dev", "emulator"}
    assert {path.parent.name for path in INPUTS if path.parent != REQUIREMENTS} == {
        "auction",
        "authorizer",
        "events_api",
        "orders_api",
    }
    assert set(LISTS) == {path.with_suffix(".txt") for path in INPUTS} | {REQUIREMENTS / "constraints.txt"}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_line_is_an_exact_pin(path: Path) -> None:
    wrong = [line for line in lines(path) if not PIN.fullmatch(line)]
    assert wrong == []


@pytest.mark.parametrize("path", HASHED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_that_is_installed_has_its_hashes_and_the_version_of_its_list(path: Path) -> None:
    entries = path.read_text().replace(" \\\n", " ").splitlines()
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    if path.name == "uv.txt":
        assert pins(path) == {"uv": pins(REQUIREMENTS / "constraints.txt")["uv"]}
    elif path.parent.name == "hashed":
        assert pins(path) == pins(REQUIREMENTS / path.name)


def test_installers_take_the_lists_with_hashes() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r" -r requirements/\S+", makefile) == [" -r requirements/hashed/$(1).txt"]
    assert "hashed = --no-deps --require-hashes " in makefile
    assert "--require-hashes" in (ROOT / "lambdas" / "Makefile").read_text()


@pytest.mark.parametrize("path", [*LISTS, *HASHED, *INPUTS, MWAA], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_list_holds_an_address(path: Path) -> None:
    text = path.read_text()
    for mark in ("://", "--index", "--extra-index", "--find-links", "--trusted-host", " @ "):
        assert mark not in text, mark


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_versions_are_those_that_airflow_is_tested_with(path: Path) -> None:
    if path.stem in OWN_PINS | {"constraints"}:
        assert "apache-airflow" not in pins(path)
        return
    constraints = pins(REQUIREMENTS / "constraints.txt")
    other = {
        name: (version, constraints[name])
        for name, version in pins(path).items()
        if constraints.get(name, version) != version
    }
    assert other == {}


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_list_holds_all_that_was_asked_for(path: Path) -> None:
    pinned = pins(path.with_suffix(".txt"))
    asked = [line for line in lines(path) if not line.startswith("-")]
    assert asked
    for line in asked:
        name, _, version = line.partition("==")
        assert name_of(name.partition("[")[0]) in pinned, line
        assert version in ("", pinned[name_of(name.partition("[")[0])]), line


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_inputs_refer_to_files_beside_them(path: Path) -> None:
    for line in lines(path):
        if line.startswith("-"):
            option, _, target = line.partition(" ")
            assert option in ("-c", "-r"), line
            assert (REQUIREMENTS / target).is_file(), line


def test_mwaa_s_list_names_its_constraints_first() -> None:
    # Without such a line MWAA adds the constraints of an Airflow that is not quite its own.
    first = MWAA.read_text().splitlines()[0]
    assert re.fullmatch(r'--constraint "/usr/local/airflow/(plugins|dags)/[\w.-]+\.txt"', first)


def test_mwaa_s_list_holds_only_what_its_image_lacks() -> None:
    constraints = pins(REQUIREMENTS / "constraints.txt")
    listed = {}
    for line in lines(MWAA)[1:]:
        pin = PIN.fullmatch(line)
        assert pin is not None, line
        listed[name_of(pin["name"])] = pin["version"]
    assert listed
    assert set(listed) <= LACKING_ON_MWAA
    # Airflow's constraints do not know standardwebhooks; local.txt pins it, see the next test.
    assert {name: constraints.get(name, version) for name, version in listed.items()} == listed


def test_mwaa_s_list_and_the_local_one_agree() -> None:
    local = pins(REQUIREMENTS / "local.txt")
    for name, version in pins(MWAA).items():
        assert local[name] == version
