import asyncio
from typing import Any

import httpx
import pytest

from include.clients.http import Response
from include.clients.tokens import (
    FRUITLESS_SECONDS,
    KEY_LOGIN_SECONDS,
    MAX_REFUSED,
    Grant,
    Token,
    TokenCache,
    key_login,
)
from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError, InvalidAnswerError, PipelineError
from tests.worlds.call_details import ACCESS, KEYS, LOGIN_URL, SECRET, TOKEN, FakeCallDetails, FakeTime, logged_in_as
from tests.worlds.pipeline import leaks


def make(fake: FakeCallDetails, time: FakeTime | None = None) -> TokenCache:
    return fake.login(time)


def value(login: TokenCache) -> str:
    """The token, fetched in an event loop of its own."""
    return asyncio.run(login.token()).value


def test_login_is_what_the_spec_asks_for() -> None:
    fake = FakeCallDetails()
    assert value(make(fake)) == f"{TOKEN}-1"
    (request,) = fake.login_requests
    assert request.method == "POST"
    assert logged_in_as(request) == {"accessKey": ACCESS, "secretKey": SECRET}
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "x"},
        {"access_token": "x"},
        {"token": None, "access_token": "x"},
        {"token": {"type": "JWT"}, "access_token": "x"},
        {"token": " x\r\n"},
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_both_spellings_of_the_token_are_taken(answer: dict[str, Any], status: int) -> None:
    assert value(make(FakeCallDetails(logins=[httpx.Response(status, json=answer)]))) == "x"


def test_token_serves_for_fifty_minutes_in_every_event_loop() -> None:
    fake, time = FakeCallDetails(), FakeTime()
    login = make(fake, time)
    assert KEY_LOGIN_SECONDS == 50 * 60
    value(login)
    time.now += KEY_LOGIN_SECONDS - 0.1
    assert value(login) == f"{TOKEN}-1"
    time.now += 0.1
    assert value(login) == f"{TOKEN}-2"
    assert login.logins == 2


@pytest.mark.parametrize(("asked", "logins"), [("60", 3), ("61", 1), ("3600", 1)])
def test_login_that_asks_for_a_long_wait_is_left_alone(asked: str, logins: int) -> None:
    busy, time = httpx.Response(429, headers={"Retry-After": asked}), FakeTime()
    login = make(fake := FakeCallDetails(logins=[busy] * 3), time)
    with pytest.raises(ApiUnavailableError) as caught:
        value(login)
    assert (caught.value.retry_after, len(fake.login_requests)) == (float(asked), logins)


async def test_token_that_served_is_always_renewed_after_a_401() -> None:
    login = make(FakeCallDetails())

    async def accept(token: Token) -> Response:
        return Response(200, {}, b"")

    values = []
    for _ in range(3):
        await login.call(accept)
        values.append((await login.token(refused=await login.token())).value)
    assert (values) == [f"{TOKEN}-2", f"{TOKEN}-3", f"{TOKEN}-4"]


async def test_tokens_that_never_serve_are_not_renewed_for_ever() -> None:
    fake, time = FakeCallDetails(), FakeTime()
    login = make(fake, time)
    token = await login.token()
    for _ in range(10):
        token = await login.token(refused=token)
    assert len(fake.login_requests) == MAX_REFUSED
    time.now += FRUITLESS_SECONDS
    assert await login.token(refused=token) is not token
    assert len(fake.login_requests) == MAX_REFUSED + 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_keys_are_not_tried_again(status: int) -> None:
    fake = FakeCallDetails(logins=[httpx.Response(status, text=SECRET)] * 5)
    login = make(fake)
    for _ in range(3):
        with pytest.raises(AuthRefusedError, match="SSM parameters") as refused:
            value(login)
        assert leaks(str(refused.value), SECRET) == []
    assert len(fake.login_requests) == 1


@pytest.mark.parametrize(
    "reply", [httpx.Response(503), httpx.Response(429), httpx.ConnectError(SECRET), httpx.ReadTimeout(SECRET)]
)
async def test_login_that_is_down_is_asked_three_times_by_all_together(reply: httpx.Response | Exception) -> None:
    fake, time = FakeCallDetails(logins=[reply] * 10), FakeTime()
    login = make(fake, time)
    errors = [
        error
        for error in await asyncio.gather(*(login.token() for _ in range(20)), return_exceptions=True)
        if isinstance(error, BaseException)
    ]
    assert all(isinstance(error, ApiUnavailableError) for error in errors)
    assert leaks(str(errors[0]), SECRET) == []
    assert (len(fake.login_requests), len(time.slept)) == (3, 2)


def test_login_that_comes_back_is_used() -> None:
    time = FakeTime()
    fake = FakeCallDetails(logins=[httpx.Response(503, headers={"Retry-After": "20"})])
    assert value(make(fake, time)) == f"{TOKEN}-2"
    assert 20 <= sum(time.slept) <= 21


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (httpx.Response(404), ApiRefusedError),
        (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), ApiRefusedError),
        (httpx.Response(204), InvalidAnswerError),
        (httpx.Response(200, text=f"<html>{SECRET}"), InvalidAnswerError),
        (httpx.Response(200, json=[SECRET]), InvalidAnswerError),
        (httpx.Response(200, json={"jwt": SECRET}), InvalidAnswerError),
        (httpx.Response(200, json={"token": ""}), InvalidAnswerError),
        (httpx.Response(200, json={"token": 7}), InvalidAnswerError),
        (httpx.Response(200, json={"token": "a\nX-Injected: 1"}), InvalidAnswerError),
        (httpx.Response(200, json={"token": "tökén"}), InvalidAnswerError),
        (httpx.Response(200, content=b"[" * 100_000), InvalidAnswerError),
        (httpx.Response(200, content=b" " * 2_000_000), ApiRefusedError),
    ],
)
def test_an_answer_that_is_no_token_is_refused_without_quoting_it(
    reply: httpx.Response, error: type[PipelineError]
) -> None:
    with pytest.raises(error) as refused:
        value(make(FakeCallDetails(logins=[reply])))
    assert leaks(str(refused.value), SECRET) == []
    assert refused.value.__cause__ is None


def test_the_deadline_is_for_the_whole_exchange() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    fetch = key_login(LOGIN_URL, KEYS, FakeCallDetails(logins=[never]).http, seconds=0.05)
    with pytest.raises(ApiUnavailableError, match=r"no answer from calls\.test:443 within 0\.05 s"):
        asyncio.run(TokenCache(fetch).token())


def test_keys_and_token_are_not_in_a_repr() -> None:
    token = asyncio.run(make(FakeCallDetails()).token())
    assert leaks(repr((KEYS, Grant(TOKEN, 1.0), token)), ACCESS, SECRET, TOKEN) == []
