from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from include.clients.http import tls_context
from include.clients.tokens import (
    DEFAULT_LIFETIME_SECONDS,
    REFRESH_EARLY_SECONDS,
    ClientCredentialsAuth,
)
from include.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    AuthRefusedError,
    InvalidAnswerError,
    PipelineError,
)
from tests.worlds.archive import (
    BASE_URL,
    CREDENTIALS,
    SECRET,
    TOKEN,
    TOKEN_URL,
    Clock,
    FakeDex,
    token_answer,
)

URL = f"{BASE_URL}/data-exchange/trigger"


def call(
    dex: FakeDex, *client_ids: int, auth: ClientCredentialsAuth | None = None, together: bool = False
) -> list[httpx.Response]:
    """Ask for each client through one authentication, in turn or all at once."""
    auth = auth or ClientCredentialsAuth(CREDENTIALS, transport=dex)

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(auth=auth, transport=dex, verify=tls_context()) as http:
            if together:
                return await asyncio.gather(*(http.get(URL, params={"clientId": i}) for i in client_ids))
            return [await http.get(URL, params={"clientId": i}) for i in client_ids]

    return asyncio.run(run())


def log_in(dex: FakeDex) -> None:
    asyncio.run(ClientCredentialsAuth(CREDENTIALS, transport=dex).log_in())


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
    assert [response.status_code for response in responses] == [200] * 50


@pytest.mark.parametrize("expires_in", [3600, "3600"])
def test_token_is_renewed_before_it_expires(expires_in: int | str) -> None:
    clock, dex = Clock(), FakeDex(tokens=[token_answer(1, expires_in=expires_in)])
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex, clock=clock)
    call(dex, 1, auth=auth)
    clock.now += 3600 - REFRESH_EARLY_SECONDS - 1
    call(dex, 2, auth=auth)
    assert len(dex.logins) == 1
    clock.now += 1
    call(dex, 3, auth=auth)
    assert len(dex.logins) == 2
    assert dex.bearers[-1] == f"Bearer {TOKEN}-2"


@pytest.mark.parametrize(
    ("expires_in", "usable"),
    [(None, DEFAULT_LIFETIME_SECONDS - REFRESH_EARLY_SECONDS), (60, 30), (100, 50), (1, 0.5)],
)
def test_missing_or_short_lifetime_still_serves_for_a_while(expires_in: int | None, usable: float) -> None:
    clock, dex = Clock(), FakeDex(tokens=[token_answer(1, expires_in=expires_in)])
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex, clock=clock)
    call(dex, 1, auth=auth)
    clock.now += usable - 0.1
    call(dex, 2, auth=auth)
    assert len(dex.logins) == 1
    clock.now += 0.1
    call(dex, 3, auth=auth)
    assert len(dex.logins) == 2


def test_401_leads_to_one_login_and_one_repetition() -> None:
    dex = FakeDex(answers={1: [httpx.Response(401), httpx.Response(200, text="[1]")]})
    (response,) = call(dex, 1)
    assert response.text == "[1]"
    assert len(dex.logins) == 2
    assert dex.bearers == [f"Bearer {TOKEN}-1", f"Bearer {TOKEN}-2"]


def test_second_401_is_the_answer() -> None:
    dex = FakeDex(answers={1: httpx.Response(401)})
    (response,) = call(dex, 1)
    assert response.status_code == 401
    assert (len(dex.asked), len(dex.logins)) == (2, 2)


def test_token_that_expires_in_mid_run_costs_one_login_for_all() -> None:
    valid = f"Bearer {TOKEN}-2"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.headers["Authorization"] == valid else 401)

    dex = FakeDex(answers=dict.fromkeys(range(30), answer))
    dex.pause = lambda: asyncio.sleep(0.005)
    responses = call(dex, *range(30), together=True)
    assert [response.status_code for response in responses] == [200] * 30
    assert len(dex.logins) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(400, json={"error": "invalid_client"}),
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(403, text="no"),
        httpx.Response(200, json={"error": "invalid_scope"}),
    ],
    ids=["400", "401", "403", "200"],
)
def test_refused_credentials_are_tried_once_only(refusal: httpx.Response) -> None:
    dex = FakeDex(tokens=[refusal])
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex)

    async def run() -> list[BaseException | httpx.Response]:
        async with httpx.AsyncClient(auth=auth, transport=dex, verify=tls_context()) as http:
            calls = (http.get(URL, params={"clientId": i}) for i in range(20))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    results = asyncio.run(run())
    assert {type(result) for result in results} == {AuthRefusedError}
    assert len(dex.logins) == 1
    assert dex.asked == []
    assert "dex-client" in str(results[0])
    assert "client secret" in str(results[0])


def test_failed_login_is_shared_by_all_who_wait_for_it() -> None:
    dex = FakeDex(tokens=[httpx.Response(503, headers={"Retry-After": "7"})])
    dex.pause = lambda: asyncio.sleep(0.01)
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex)

    async def run() -> list[BaseException | None]:
        return list(await asyncio.gather(*(auth.log_in() for _ in range(20)), return_exceptions=True))

    results = asyncio.run(run())
    assert {type(result) for result in results} == {ApiUnavailableError}
    assert {result.retry_after for result in results if isinstance(result, ApiUnavailableError)} == {7.0}
    assert len(dex.logins) == 1


def test_caller_that_gives_up_does_not_take_the_login_from_the_others() -> None:
    dex = FakeDex()
    dex.pause = lambda: asyncio.sleep(0.05)
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex)

    async def run() -> None:
        impatient, patient = (asyncio.create_task(auth.log_in()) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        assert impatient.cancelled()

    asyncio.run(run())
    assert len(dex.logins) == 1


def test_failed_login_can_be_tried_again() -> None:
    dex = FakeDex(tokens=[httpx.Response(503)])
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex)
    with pytest.raises(ApiUnavailableError):
        call(dex, 1, auth=auth)
    assert call(dex, 1, auth=auth)[0].status_code == 200


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
        (token_answer(expires_in="soon"), InvalidAnswerError),
        (token_answer(expires_in=[1]), InvalidAnswerError),
        (token_answer(expires_in=10**400), InvalidAnswerError),
        (httpx.Response(200, text="[" * 200_000 + "]" * 200_000), InvalidAnswerError),
        (httpx.Response(200, text='{"a":' * 100_000 + "1" + "}" * 100_000), InvalidAnswerError),
        (httpx.ConnectError("refused"), ApiUnavailableError),
        (httpx.ReadTimeout("slow"), ApiUnavailableError),
        (httpx.RemoteProtocolError("cut"), ApiUnavailableError),
    ],
    ids=lambda value: str(value)[:60],
)
def test_token_endpoint_that_misbehaves(reply: httpx.Response | Exception, expected: type[PipelineError]) -> None:
    with pytest.raises(PipelineError) as caught:
        log_in(FakeDex(tokens=[reply]))
    assert type(caught.value) is expected
    assert TOKEN_URL in str(caught.value)
    assert "Sign in" not in str(caught.value)


@pytest.mark.parametrize("expires_in", [0, -5, "NaN"])
def test_senseless_lifetime_does_not_cost_a_login_per_call(expires_in: Any) -> None:
    dex = FakeDex(tokens=[token_answer(number, expires_in=expires_in) for number in range(1, 9)])
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex, clock=Clock())
    try:
        call(dex, *range(8), auth=auth)
    except InvalidAnswerError:
        return
    assert len(dex.logins) == 1


def test_retry_after_of_the_token_endpoint_is_kept() -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        log_in(FakeDex(tokens=[httpx.Response(429, headers={"Retry-After": "33"})]))
    assert caught.value.retry_after == 33.0


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
    auth = ClientCredentialsAuth(CREDENTIALS, transport=dex)
    texts = []
    try:
        asyncio.run(auth.log_in())
    except PipelineError as error:
        texts += [str(error), repr(error)]
        if isinstance(reply, httpx.Response):
            # As a log shows it, with its causes: the server's words must not come that way either.
            texts.append("".join(traceback.format_exception(error)))
    texts += [repr(auth), str(vars(auth)), repr(CREDENTIALS), str(CREDENTIALS), caplog.text]
    for text in texts:
        assert SECRET not in text
        assert TOKEN not in text


def test_endpoint_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.clients.tokens.TIMEOUT_SECONDS", 0.05)
    forever: Callable[[httpx.Request], Any] = lambda request: asyncio.Event().wait()  # noqa: E731
    with pytest.raises(ApiUnavailableError, match="did not answer within"):
        log_in(FakeDex(tokens=[forever]))
