"""What `sam build` puts into the functions' folders for AWS: that, all of it, and the same every time."""

import hashlib
import importlib.util
import struct
from pathlib import Path

import pytest

from local.processes.supervisor import Command
from local.services.emulator import build_command
from tests.integration.conftest import BUILD_SECONDS, run

POWERTOOLS = {"aws_lambda_powertools", "jmespath", "typing_extensions"}
PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
LIBRARIES: dict[str, set[str]] = {
    "AuctionStack/AuctionResultsFunction": POWERTOOLS,
    "AuctionStack/AuctionOrderFunction": POWERTOOLS,
    "OrdersApiStack/OrdersApiAuthorizerFunction": POWERTOOLS | {"jwt"},
    "OrdersApiStack/OrdersApiFunction": POWERTOOLS | PYDANTIC,
    "EventsApiStack/EventsApiFunction": POWERTOOLS | PYDANTIC,
    "EventsApiStack/EventsApiAuthorizerFunction": set(),
}
"""Modules and packages at the top of each zip, beside `lambdas`; boto3 is Lambda's own."""

PACKAGES = {
    "AuctionStack/AuctionResultsFunction": {"auction", "common"},
    "AuctionStack/AuctionOrderFunction": {"auction", "common"},
    "OrdersApiStack/OrdersApiAuthorizerFunction": {"authorizer", "common"},
    "OrdersApiStack/OrdersApiFunction": {"common", "orders_api"},
    "EventsApiStack/EventsApiFunction": {"common", "events_api"},
    "EventsApiStack/EventsApiAuthorizerFunction": {"common", "events_api"},
}
"""Packages of ours in each zip."""

AARCH64 = 183
"""The machine's number in the header of a shared library (ELF, e_machine)."""

UNCHECKED_HASH = 0b01
"""Flags in the header of bytecode that is taken as it is, whatever the source's date."""


@pytest.fixture(scope="module")
def for_aws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("for-aws")
    run(build_command(directory, wheels="aws"), {}, timeout=BUILD_SECONDS)
    return directory


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("function", LIBRARIES)
def test_zip_holds_what_the_function_needs_and_nothing_else(for_aws: Path, function: str) -> None:
    folder = for_aws / function
    top = {name.removesuffix(".py") for name in _names(folder) if not name.endswith(".dist-info")}
    assert top - {"__pycache__"} == LIBRARIES[function] | {"lambdas"}
    assert _names(folder / "lambdas") == PACKAGES[function] | {"__init__.py", "__pycache__"}
    assert [path.name for path in (folder / "lambdas").rglob("requirements*")] == []


def test_shared_libraries_are_for_arm(for_aws: Path) -> None:
    libraries = list(for_aws.rglob("*.so"))
    assert libraries, "pydantic has one"
    for path in libraries:
        header = path.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", header, 18) == (AARCH64,), path.name


@pytest.mark.parametrize("function", LIBRARIES)
def test_every_module_is_compiled_so_that_no_cold_start_does_it(for_aws: Path, function: str) -> None:
    sources = list((for_aws / function).rglob("*.py"))
    assert sources
    for source in sources:
        header = Path(importlib.util.cache_from_source(str(source))).read_bytes()[:8]
        assert header[:4] == importlib.util.MAGIC_NUMBER, source
        assert int.from_bytes(header[4:8], "little") == UNCHECKED_HASH, source


def test_folder_is_filled_with_the_same_a_second_time_and_by_the_other_installer(for_aws: Path, tmp_path: Path) -> None:
    environment = build_command(tmp_path, wheels="aws").environment
    fill = Command(
        name="fill",
        # Without uv the Makefile takes pip.
        arguments=["make", "-C", "lambdas", "build-OrdersApiFunction", f"ARTIFACTS_DIR={tmp_path}", "UV="],
        environment=environment,
    )
    run(fill, {}, timeout=BUILD_SECONDS)
    assert _digests(tmp_path) == _digests(for_aws / "OrdersApiStack/OrdersApiFunction")


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
