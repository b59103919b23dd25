import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from include.clients.call_details import LONGEST_WAIT_SECONDS, CallDetailsApi, Delivery, Gate
from include.errors import ApiUnavailableError, AuthRefusedError, PausedError
from tests.worlds.call_details import ACCESS, POST_URL, SECRET, TOKEN, FakeCallDetails, FakeTime
from tests.worlds.http import Reply
from tests.worlds.pipeline import leaks

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
BODY = b'{"records":[{"n":1.500}],"timestamp":"2026-03-08T12:00:00.000Z","batchSize":1}'
ACCEPTED = httpx.Response(200, json={})


def post(
    fake: FakeCallDetails,
    *keys: str,
    attempts: int = 3,
    gate: Gate | None = None,
    time: FakeTime | None = None,
    seconds: float = 60.0,
) -> list[Delivery]:
    """Post one batch for each key, all at once."""
    time = time or FakeTime()

    async def run() -> list[Delivery]:
        login = fake.login(time)
        options = {} if gate is None else {"gate": gate}
        api = CallDetailsApi(
            POST_URL,
            login,
            attempts=attempts,
            seconds=seconds,
            http=fake.http,
            sleep=time.sleep,
            clock=time,
            now=lambda: NOW,
            **options,
        )
        async with api:
            return await asyncio.gather(*(api.post(BODY, key) for key in keys or ("a",)))

    return asyncio.run(run())


def scripted(*replies: Reply) -> FakeCallDetails:
    """The API with these replies for key ``a``, the last one for good."""
    return FakeCallDetails(answers={"a": list(replies)})


def test_request_is_the_one_of_the_contract() -> None:
    fake = FakeCallDetails()
    assert post(fake) == [Delivery(True, 1)]
    (request,) = fake.posted
    assert (request.method, str(request.url)) == ("POST", POST_URL)
    assert request.content == BODY, "byte for byte"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}-1"
    assert request.headers["Idempotency-Key"] == "a"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_2xx_is_an_acceptance_whatever_its_body_says(status: int) -> None:
    fake = scripted(httpx.Response(status, content=b"<html>oops" if status != 204 else b""))
    assert post(fake) == [Delivery(True, 1)]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again_with_growing_pauses(status: int) -> None:
    fake, time = scripted(httpx.Response(status)), FakeTime()
    (delivery,) = post(fake, time=time)
    assert (delivery.accepted, delivery.attempts, delivery.status) == (False, 3, status)
    assert delivery.first_failed_at == NOW
    assert fake.keys == {"a": 3}, "always under the same key"
    first, second = time.slept
    assert 1 <= first <= 1.5
    assert 2 <= second <= 3


@pytest.mark.parametrize("status", [301, 302, 307, 304, 400, 403, 404, 409, 413, 422])
def test_what_will_not_pass_is_tried_once(status: int) -> None:
    fake = scripted(httpx.Response(status, headers={"Location": "https://elsewhere.test/", "Retry-After": "3600"}))
    (delivery,) = post(fake)
    assert (delivery.accepted, delivery.attempts, delivery.status) == (False, 1, status)
    assert len(fake.posted) == 1
    assert (delivery.error or "").startswith(str(status))


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no"),
        httpx.ConnectTimeout("no"),
        httpx.ReadTimeout("no"),
        httpx.ReadError("no"),
        httpx.RemoteProtocolError("no"),
    ],
)
def test_lost_connections_are_tried_again(error: Exception) -> None:
    assert post(scripted(error, ACCEPTED)) == [Delivery(True, 2, first_failed_at=NOW)]
    (dead,) = post(scripted(error))
    assert (dead.attempts, dead.status) == (3, None)
    assert dead.error


def test_an_answer_that_breaks_off_is_no_acceptance_yet() -> None:
    class BreaksOff(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'{"acc'
            raise httpx.RemoteProtocolError("cut")

    fake = scripted(httpx.Response(200, stream=BreaksOff()), ACCEPTED)
    assert post(fake)[0].attempts == 2
    assert fake.keys == {"a": 2}


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

    assert post(scripted(httpx.Response(200, stream=Endless()))) == [Delivery(True, 1)]


def test_the_deadline_is_for_the_whole_exchange() -> None:
    class Drips(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

    (delivery,) = post(scripted(lambda _: httpx.Response(200, stream=Drips())), attempts=2, seconds=0.1)
    why = "no answer from calls.test:443 within 0.1 s"
    assert (delivery.accepted, delivery.attempts, delivery.error) == (False, 2, why)


@pytest.mark.parametrize("asked", ["7", format_datetime(NOW + timedelta(seconds=7), usegmt=True)])
def test_retry_after_is_honoured(asked: str) -> None:
    time = FakeTime()
    post(scripted(httpx.Response(429, headers={"Retry-After": asked}), ACCEPTED), time=time)
    assert 7 <= sum(time.slept) <= 8


@pytest.mark.parametrize("asked", ["soon", "-5"])
def test_retry_after_that_makes_no_sense_is_ignored(asked: str) -> None:
    time = FakeTime()
    assert post(scripted(httpx.Response(503, headers={"Retry-After": asked}), ACCEPTED), time=time)[0].accepted
    assert sum(time.slept) <= 2


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("asked", ["61", "86400", "9" * 400])
def test_api_that_asks_for_a_long_wait_is_left_alone_and_the_batch_not_given_up(asked: str, attempts: int) -> None:
    time, fake = FakeTime(), scripted(httpx.Response(429, headers={"Retry-After": asked}))
    with pytest.raises(ApiUnavailableError, match="asks to wait for") as raised:
        post(fake, time=time, attempts=attempts)
    assert raised.value.retry_after is not None
    assert raised.value.retry_after > LONGEST_WAIT_SECONDS
    assert (len(fake.posted), time.slept) == (1, [])


async def test_api_that_asks_for_a_long_wait_after_it_has_accepted_some_costs_a_pause_and_no_failure() -> None:
    fake, time = scripted(ACCEPTED, httpx.Response(429, headers={"Retry-After": "61"})), FakeTime()
    async with CallDetailsApi(POST_URL, fake.login(time), http=fake.http, sleep=time.sleep, clock=time) as api:
        assert (await api.post(BODY, "a")).accepted
        with pytest.raises(PausedError, match="the API asks to wait for 61 s") as raised:
            await api.post(BODY, "a")
    assert raised.value.retry_after == pytest.approx(61)


async def test_wait_that_the_last_attempt_is_told_is_one_for_all() -> None:
    time, posted_at = FakeTime(), list[float]()

    def note(_: httpx.Request) -> httpx.Response:
        posted_at.append(time.now)
        return ACCEPTED

    fake = FakeCallDetails(answers={"a": [httpx.Response(429, headers={"Retry-After": "50"})], "b": [note]})
    started = time.now
    login = fake.login(time)
    async with CallDetailsApi(
        POST_URL, login, attempts=1, http=fake.http, sleep=time.sleep, clock=time, now=lambda: NOW
    ) as api:
        assert not (await api.post(BODY, "a")).accepted
        assert (await api.post(BODY, "b")).accepted
    assert posted_at[0] >= started + 50


@pytest.mark.parametrize("others", [("b",), ("b", "c")])
def test_wait_that_one_call_is_told_is_not_shortened_by_another_nor_passed_by_who_waits_for_a_permit(
    others: tuple[str, ...],
) -> None:
    time, posted_at = FakeTime(), list[float]()

    def note(_: httpx.Request) -> httpx.Response:
        posted_at.append(time.now)
        return ACCEPTED

    def asked(seconds: int) -> httpx.Response:
        return httpx.Response(503, headers={"Retry-After": str(seconds)})

    *shorter, last = others
    fake = FakeCallDetails(answers={"a": [asked(50)], last: [note]} | {key: [asked(5)] for key in shorter})
    fake.pause = a_while
    started = time.now
    post(fake, "a", *others, attempts=1, gate=at_most(len(others)), time=time)
    assert [moment >= started + 50 for moment in posted_at] == [True]


def at_most(permits: int) -> Gate:
    free = asyncio.Semaphore(permits)

    @asynccontextmanager
    async def gate() -> AsyncIterator[None]:
        async with free:
            yield

    return gate


async def a_while() -> None:
    """So long that all that may be sent at once are."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["429 alone", "with Retry-After"])
def test_api_that_has_too_many_calls_gets_half_as_many_at_once_and_then_slowly_more(headers: dict[str, str]) -> None:
    keys = [str(number) for number in range(20)]
    too_many = httpx.Response(429, headers=headers)
    fake = FakeCallDetails(answers={key: [too_many, ACCEPTED] for key in keys[:8]})
    at_once: list[int] = []

    async def pause() -> None:
        at_once.append(fake.in_flight)
        await a_while()

    fake.pause = pause
    assert all(delivery.accepted for delivery in post(fake, *keys, gate=at_most(8)))
    # One call of the login, the eight that were too many, and what came then.
    first, then = at_once[1:9], at_once[9:]
    assert (max(first), max(then[:4])) == (8, 4)
    assert 4 < max(then) < 8


def test_what_was_told_to_wait_goes_before_what_was_never_sent() -> None:
    told = ["a", "b", "c"]
    fake = FakeCallDetails(answers={key: [httpx.Response(429, headers={"Retry-After": "9"}), ACCEPTED] for key in told})
    fake.pause = a_while
    assert [delivery.attempts for delivery in post(fake, *told, "d", "e", gate=at_most(3))] == [2, 2, 2, 1, 1]
    posted = [request.headers["Idempotency-Key"] for request in fake.posted]
    assert (sorted(posted[:3]), sorted(posted[3:6]), sorted(posted[6:])) == (told, told, ["d", "e"])


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}])
def test_batch_that_nobody_asked_to_wait_for_holds_up_no_other(headers: dict[str, str]) -> None:
    fake = FakeCallDetails(answers={"a": [httpx.Response(503, headers=headers), ACCEPTED]})
    fake.pause = a_while
    post(fake, "a", "b", gate=at_most(1))
    assert [request.headers["Idempotency-Key"] for request in fake.posted] == ["a", "b", "a"]


def test_what_one_call_is_told_to_wait_all_wait() -> None:
    time, posted_at = FakeTime(), list[float]()

    def note(_: httpx.Request) -> httpx.Response:
        posted_at.append(time.now)
        return ACCEPTED

    started = time.now
    gate_opened = False

    @asynccontextmanager
    async def gate() -> AsyncIterator[None]:
        # Two at once; the third is let in only after the first was told to wait.
        nonlocal gate_opened
        while len(fake.posted) >= 1 and not gate_opened:
            await asyncio.sleep(0)
            gate_opened = time.now > started
        yield

    fake = FakeCallDetails(
        answers={"a": [httpx.Response(429, headers={"Retry-After": "9"}), ACCEPTED], "b": [note], "c": [note]}
    )
    post(fake, "a", "b", "c", gate=gate, time=time)
    assert min(posted_at) >= started + 9


def test_every_call_goes_through_the_gate_and_no_pause_does() -> None:
    time, entered, inside = FakeTime(), 0, 0

    @asynccontextmanager
    async def gate() -> AsyncIterator[None]:
        nonlocal entered, inside
        entered, inside = entered + 1, inside + 1
        slept = len(time.slept)
        yield
        inside -= 1
        assert len(time.slept) == slept, "a permit was held through a pause"

    assert post(scripted(httpx.Response(500), ACCEPTED), gate=gate, time=time)[0].accepted
    assert (entered, inside) == (2, 0)


def test_401_leads_to_one_login_and_one_repetition_that_is_no_retry() -> None:
    fake, time = scripted(httpx.Response(401), ACCEPTED), FakeTime()
    assert post(fake, time=time) == [Delivery(True, 1)]
    assert fake.tokens == [f"{TOKEN}-1", f"{TOKEN}-2"]
    assert time.slept == []


def test_nothing_secret_is_reported() -> None:
    leaky = httpx.Response(400, text=f"you sent {TOKEN} and {SECRET} and a record")
    (delivery,) = post(scripted(leaky))
    assert delivery.error == "400 Bad Request"
    with pytest.raises(AuthRefusedError) as refused:
        post(FakeCallDetails(logins=[httpx.Response(401, json=[SECRET, ACCESS, TOKEN])]))
    shown = "".join(traceback.format_exception(refused.value, limit=0))
    assert leaks(shown + repr(delivery), SECRET, ACCESS, TOKEN) == []
