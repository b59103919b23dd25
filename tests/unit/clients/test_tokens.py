import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from include.clients.http import Response
from include.clients.tokens import (
    DEFAULT_LIFETIME_SECONDS,
    FRUITLESS_SECONDS,
    MAX_REFUSED,
    REFRESH_EARLY_SECONDS,
    Token,
    TokenCache,
    client_credentials,
)
from include.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    AuthRefusedError,
    InvalidAnswerError,
    NoResponseError,
    PipelineError,
)
from tests.worlds.archive import BASE_URL, CREDENTIALS, SECRET, TOKEN, Clock, FakeDex, token_answer
from tests.worlds.pipeline import leaks

URL = f"{BASE_URL}/data-exchange/trigger"


def tokens(dex: FakeDex, clock: Clock | None = None) -> TokenCache:
    return TokenCache(client_credentials(CREDENTIALS, dex.http), clock=clock or Clock())


def call(
    dex: FakeDex, *client_ids: int, cache: TokenCache | None = None, together: bool = False
) -> list[Response | BaseException]:
    cache = cache or tokens(dex)

    async def ask(client_id: int) -> Response:
        async def send(token: Token) -> Response:
            headers = {"Authorization": f"Bearer {token.value}"}
            return await dex.http.exchange("GET", f"{URL}?clientId={client_id}", headers=headers)

        return await cache.call(send)

    async def run() -> list[Response | BaseException]:
        if together:
            return await asyncio.gather(*map(ask, client_ids), return_exceptions=True)
        return [await ask(client_id) for client_id in client_ids]

    return asyncio.run(run())


def statuses(answers: list[Response | BaseException]) -> list[int]:
    return [answer.status for answer in answers if isinstance(answer, Response)]


def log_in(dex: FakeDex) -> None:
    asyncio.run(tokens(dex).token())


def test_login_is_the_form_that_the_spec_asks_for() -> None:
    dex = FakeDex()
    log_in(dex)
    assert dex.logins == [
        {
            "grant_type": "client_credentials",
            "client_id": "dex-client",
            "client_secret": SECRET,
            "scope": "dex/trigger:all",
        }
    ]
    headers = dex.login_headers[0]
    assert headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert "Authorization" not in headers, "the secret goes into the form only"


def test_token_is_shared_by_later_calls() -> None:
    dex = FakeDex()
    call(dex, 1, 2, 3)
    assert len(dex.logins) == 1
    assert set(dex.bearers) == {f"Bearer {TOKEN}-1"}


def test_concurrent_calls_share_one_login() -> None:
    dex = FakeDex()
    dex.pause = lambda: asyncio.sleep(0.01)
    responses = call(dex, *range(50), together=True)
    assert len(dex.logins) == 1
    assert statuses(responses) == [200] * 50


@pytest.mark.parametrize("expires_in", [3600, "3600", "3600.0"])
def test_token_is_renewed_before_it_expires(expires_in: float | str) -> None:
    clock, dex = Clock(), FakeDex(tokens=[token_answer(1, expires_in=expires_in)])
    cache = tokens(dex, clock)
    call(dex, 1, cache=cache)
    clock.now += 3600 - REFRESH_EARLY_SECONDS - 1
    call(dex, 2, cache=cache)
    assert len(dex.logins) == 1
    clock.now += 1
    call(dex, 3, cache=cache)
    assert len(dex.logins) == 2
    assert dex.bearers[-1] == f"Bearer {TOKEN}-2"


@pytest.mark.parametrize(
    ("expires_in", "usable"),
    [(None, DEFAULT_LIFETIME_SECONDS - REFRESH_EARLY_SECONDS), (60, 30), (100, 50), (1, 0.5)]
    + [(unreadable, 240) for unreadable in ("", "soon", [3600], {}, 0, -5, 0.01, True, "NaN", "inf", 10**400)],
)
def test_missing_short_or_unreadable_lifetime_still_serves_for_a_while(expires_in: Any, usable: float) -> None:
    clock, dex = Clock(), FakeDex(tokens=[token_answer(1, expires_in=expires_in)])
    cache = tokens(dex, clock)
    call(dex, 1, cache=cache)
    clock.now += usable - 0.1
    call(dex, 2, cache=cache)
    assert len(dex.logins) == 1
    clock.now += 0.1
    call(dex, 3, cache=cache)
    assert len(dex.logins) == 2


def test_401_leads_to_one_login_and_one_repetition() -> None:
    dex = FakeDex(answers={1: [httpx.Response(401), httpx.Response(200, text="[1]")]})
    assert [answer.body for answer in call(dex, 1) if isinstance(answer, Response)] == [b"[1]"]
    assert len(dex.logins) == 2
    assert dex.bearers == [f"Bearer {TOKEN}-1", f"Bearer {TOKEN}-2"]


def test_403_to_a_token_that_was_accepted_before_leads_to_one_login() -> None:
    valid = f"Bearer {TOKEN}-1"
    expired: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ok = request.headers["Authorization"] == valid if not expired else request.headers["Authorization"] != valid
        return httpx.Response(200 if ok else 403)

    dex = FakeDex(answers=dict.fromkeys(range(31), answer))
    cache = tokens(dex)
    call(dex, 30, cache=cache)
    expired.append(1)
    assert statuses(call(dex, *range(30), cache=cache, together=True)) == [200] * 30
    assert len(dex.logins) == 2


def test_403_to_a_new_token_is_the_answer() -> None:
    dex = FakeDex(answers={1: httpx.Response(403)})
    assert statuses(call(dex, 1)) == [403]
    assert (len(dex.asked), len(dex.logins)) == (1, 1)


def test_403_that_is_about_the_call_does_not_cost_a_login_each() -> None:
    forbidden = set(range(1, 60, 2))
    clock, dex = Clock(), FakeDex(answers=dict.fromkeys(forbidden, httpx.Response(403)))
    cache = tokens(dex, clock)
    found = statuses(call(dex, *range(60), cache=cache))
    assert [client for client, status in enumerate(found) if status == 403] == sorted(forbidden)
    assert len(dex.logins) == 2
    clock.now += FRUITLESS_SECONDS
    call(dex, 1, cache=cache)
    assert len(dex.logins) == 3, "by now the token may have expired"


def test_an_api_that_refuses_every_token_gets_few_logins() -> None:
    dex = FakeDex(answers=dict.fromkeys(range(600), httpx.Response(401)))
    dex.pause = lambda: asyncio.sleep(0)
    cache = tokens(dex)
    assert statuses(call(dex, *range(600), cache=cache, together=True)) == [401] * 600
    assert len(dex.logins) <= MAX_REFUSED
    call(dex, 1, cache=cache)
    asked = len(dex.asked)
    call(dex, *range(10), cache=cache)
    assert (len(dex.logins), len(dex.asked)) == (MAX_REFUSED, asked + 10), "nor is a call repeated with the same token"


def test_second_401_is_the_answer() -> None:
    dex = FakeDex(answers={1: httpx.Response(401)})
    assert statuses(call(dex, 1)) == [401]
    assert (len(dex.asked), len(dex.logins)) == (2, 2)


def test_token_that_expires_in_mid_run_costs_one_login_for_all() -> None:
    valid = f"Bearer {TOKEN}-2"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.headers["Authorization"] == valid else 401)

    dex = FakeDex(answers=dict.fromkeys(range(30), answer))
    dex.pause = lambda: asyncio.sleep(0.005)
    responses = call(dex, *range(30), together=True)
    assert statuses(responses) == [200] * 30
    assert len(dex.logins) == 2


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (httpx.Response(400, json={"error": "invalid_scope"}), "400: invalid_scope"),
        (httpx.Response(401, json={"error": "invalid_client"}), "401: invalid_client"),
        (httpx.Response(401, headers={"Content-Encoding": "br"}, content=b"\x0b"), "401: no reason given"),
        (httpx.Response(403, text="no"), "403: no reason given"),
        (httpx.Response(200, json={"error": "invalid_scope"}), "200: invalid_scope"),
    ],
    ids=["400", "401", "401 unreadable", "403", "200"],
)
def test_refused_credentials_are_tried_once_only_and_the_reason_is_named(refusal: httpx.Response, reason: str) -> None:
    dex = FakeDex(tokens=[refusal])
    results = call(dex, *range(20), together=True)
    assert {type(result) for result in results} == {AuthRefusedError}
    assert len(dex.logins) == 1
    assert dex.asked == []
    assert "dex-client" in str(results[0])
    assert f"({reason})" in str(results[0])
    assert "client secret" in str(results[0])


@pytest.mark.parametrize("code", ["server_error", "temporarily_unavailable"])
@pytest.mark.parametrize("status", [200, 400, 401])
def test_endpoint_that_is_temporarily_unavailable_is_no_refusal(status: int, code: str) -> None:
    busy = httpx.Response(status, json={"error": code}, headers={"Retry-After": "7"})
    dex = FakeDex(tokens=[busy])
    cache = tokens(dex)
    with pytest.raises(ApiUnavailableError, match=f"{status}: {code}") as caught:
        call(dex, 1, cache=cache)
    assert caught.value.retry_after == 7
    assert statuses(call(dex, 1, cache=cache)) == [200]


async def test_failed_login_is_shared_by_all_who_wait_for_it() -> None:
    dex = FakeDex(tokens=[httpx.Response(503, headers={"Retry-After": "7"})])
    dex.pause = lambda: asyncio.sleep(0.01)
    cache = tokens(dex)
    results = list(await asyncio.gather(*(cache.token() for _ in range(20)), return_exceptions=True))
    assert {type(result) for result in results} == {ApiUnavailableError}
    assert {result.retry_after for result in results if isinstance(result, ApiUnavailableError)} == {7.0}
    assert len(dex.logins) == 1


async def test_caller_that_gives_up_does_not_take_the_login_from_the_others() -> None:
    dex = FakeDex()
    dex.pause = lambda: asyncio.sleep(0.05)
    cache = tokens(dex)
    impatient, patient = (asyncio.create_task(cache.token()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert len(dex.logins) == 1


class Plain(httpx.AsyncByteStream):
    """A body as it is."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


HTML = "<html><body>Sign in, please</body></html>"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (httpx.Response(500, text=HTML), ApiUnavailableError),
        (httpx.Response(503), ApiUnavailableError),
        (httpx.Response(408), ApiUnavailableError),
        (httpx.Response(404, text=HTML), ApiRefusedError),
        (httpx.Response(302, headers={"Location": "https://elsewhere.test"}), ApiRefusedError),
        (httpx.Response(200, text=HTML), InvalidAnswerError),
        (httpx.Response(200, text=""), InvalidAnswerError),
        (httpx.Response(200, text="null"), InvalidAnswerError),
        (httpx.Response(200, json=[]), InvalidAnswerError),
        (httpx.Response(200, json=["access_token"]), InvalidAnswerError),
        (httpx.Response(200, json="access_token"), InvalidAnswerError),
        (httpx.Response(200, json=5), InvalidAnswerError),
        (httpx.Response(200, json={}), InvalidAnswerError),
        (httpx.Response(200, json={"error": ["Sign in"]}), AuthRefusedError),
        (httpx.Response(200, content=b"\xff\xfe{"), InvalidAnswerError),
        (token_answer(access_token=""), InvalidAnswerError),
        (token_answer(access_token=7), InvalidAnswerError),
        (token_answer(access_token="two\r\nlines: yes"), InvalidAnswerError),
        (token_answer(access_token="tök"), InvalidAnswerError),
        (token_answer(access_token="two words"), InvalidAnswerError),
        (httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Plain(b"{}")), InvalidAnswerError),
        (httpx.Response(200, text="[" * 200_000 + "]" * 200_000), InvalidAnswerError),
        (httpx.Response(200, text='{"a":' * 100_000 + "1" + "}" * 100_000), InvalidAnswerError),
        (httpx.ConnectError("refused"), ApiUnavailableError),
        (httpx.ReadTimeout("slow"), ApiUnavailableError),
        (httpx.RemoteProtocolError("cut"), ApiUnavailableError),
    ],
    ids=lambda value: str(value)[:60],
)
def test_token_endpoint_that_misbehaves_is_named_and_worth_a_retry_or_not(
    reply: httpx.Response | Exception, expected: type[PipelineError]
) -> None:
    with pytest.raises(PipelineError) as caught:
        log_in(FakeDex(tokens=[reply]))
    assert type(caught.value) in (expected, NoResponseError)
    assert isinstance(caught.value, expected)
    assert "token endpoint of connection dex_api" in str(caught.value)
    assert "Sign in" not in str(caught.value)


@pytest.mark.parametrize("error", [None, ""])
@pytest.mark.parametrize("status", [200, 201])
def test_token_beside_an_empty_error_is_a_token(error: str | None, status: int) -> None:
    answer = httpx.Response(status, json={"access_token": "x", "error": error})
    assert asyncio.run(tokens(FakeDex(tokens=[answer])).token()).value == "x"


ECHO = {"error": f"no client with {SECRET}", "error_description": SECRET}


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(401, json=ECHO),
        httpx.Response(400, text=SECRET),
        httpx.Response(500, text=SECRET),
        httpx.Response(200, json=ECHO),
        httpx.Response(200, text=SECRET),
        httpx.ConnectError(SECRET),
        None,
    ],
    ids=["401", "400", "500", "error in 200", "text", "connection", "good"],
)
def test_secret_and_token_are_in_no_text(
    reply: httpx.Response | Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dex = FakeDex(tokens=[] if reply is None else [reply])
    cache = tokens(dex)
    texts = []
    try:
        asyncio.run(cache.token())
    except PipelineError as error:
        texts += [str(error), repr(error)]
        if isinstance(reply, httpx.Response):
            # As a log shows it, with its causes: the server's words must not come that way either.
            texts.append("".join(traceback.format_exception(error)))
    texts += [repr(cache), repr(cache._token), repr(CREDENTIALS), str(CREDENTIALS), caplog.text]
    assert leaks("".join(texts), SECRET, TOKEN) == []


def test_endpoint_that_never_answers_is_given_up() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    asked = client_credentials(CREDENTIALS, FakeDex(tokens=[never]).http, seconds=0.05)
    with pytest.raises(ApiUnavailableError, match=r"no answer from login\.test:443 within 0\.05 s"):
        asyncio.run(TokenCache(asked).token())
