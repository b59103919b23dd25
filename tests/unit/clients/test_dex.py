import asyncio
from datetime import date

import httpx
import pytest

from include.clients.dex import DexApi
from include.errors import ApiUnavailableError, AuthRefusedError
from tests.worlds.archive import BASE_URL, CREDENTIALS, TOKEN, FakeDex

DAY = date(2026, 3, 8)


def ask(dex: FakeDex, client_id: int, base_url: str = BASE_URL) -> bytes:
    async def run() -> bytes:
        async with DexApi(base_url, CREDENTIALS, http=dex.http) as api:
            return await api.trigger_response(client_id, DAY)

    return asyncio.run(run())


@pytest.mark.parametrize("base_url", [BASE_URL, f"{BASE_URL}/"])
def test_question_is_the_one_of_the_contract(base_url: str) -> None:
    dex = FakeDex(answers={42: httpx.Response(200, content=b" [1]\n")})
    assert ask(dex, 42, base_url) == b" [1]\n"
    (request,) = dex.asked
    assert request.method == "GET"
    assert str(request.url) == f"{BASE_URL}/data-exchange/trigger?clientId=42&triggerDate=2026-03-08"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}-1"


def test_token_refused_twice_is_an_authentication_error() -> None:
    dex = FakeDex(answers={1: httpx.Response(401)})
    with pytest.raises(AuthRefusedError, match="just issued"):
        ask(dex, 1)
    assert len(dex.asked) == 2


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [(429, {}, 1.0), (429, {"Retry-After": "soon"}, 1.0), (429, {"Retry-After": "0"}, 0.0), (503, {}, None)],
)
def test_429_asks_to_wait_though_it_does_not_say_how_long(
    status: int, headers: dict[str, str], wait: float | None
) -> None:
    with pytest.raises(ApiUnavailableError, match=str(status)) as caught:
        ask(FakeDex(answers={1: httpx.Response(status, headers=headers)}), 1)
    assert caught.value.retry_after == wait


async def test_log_in_asks_for_a_token_only() -> None:
    dex = FakeDex()
    async with DexApi(BASE_URL, CREDENTIALS, http=dex.http) as api:
        await api.log_in()
    assert (len(dex.logins), dex.asked) == (1, [])


def test_constructor_touches_nothing() -> None:
    dex = FakeDex()
    DexApi(BASE_URL, CREDENTIALS, http=dex.http)
    assert dex.logins == []
