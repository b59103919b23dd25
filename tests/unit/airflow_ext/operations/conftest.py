"""The operations page over fakes."""

from collections.abc import Iterator

import pytest

from tests.worlds.operations import OperationsPage, operations_page


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, airflow_database: None) -> Iterator[OperationsPage]:
    with operations_page(monkeypatch) as opened:
        yield opened
