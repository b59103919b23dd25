"""Time stands still, so that the edges of a token's life can be met."""

from collections.abc import Iterator

import pytest
import time_machine

from tests.worlds.authorizer import NOW


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield
