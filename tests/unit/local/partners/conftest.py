from typing import Any

import httpx
import pytest

from local.partners.app import PartnerStubs
from local.partners.dex import Credentials

SECRET = "the-secret-that-nobody-may-see"


def calling(app: PartnerStubs) -> httpx.AsyncClient:
    """What calls an app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stubs")


@pytest.fixture
def client() -> httpx.AsyncClient:
    return calling(PartnerStubs(lambda: Credentials("me", SECRET)))


async def set_rules(client: httpx.AsyncClient, *rules: dict[str, Any], **general: Any) -> None:
    response = await client.put("/control", json={"rules": rules, **general})
    assert response.status_code == 200, response.text
