import asyncio
import random
from collections.abc import Callable
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.rate_limit import (
    CALL_SECONDS,
    LEASE_SECONDS,
    POLL_SECONDS,
    SKEW_SECONDS,
    WAIT_SECONDS,
    ConcurrencyLimiter,
    Grant,
    PermitLease,
)
from include.clients.dynamodb import ItemTable
from include.errors import AwsRefusedError, NoPermitError
from tests.worlds.call_details import FakeTime
from tests.worlds.dynamodb import TABLE, FakeLedgerTable, table_error
from tests.worlds.s3 import raising


def permits_of(
    fake: FakeLedgerTable, limit: int, time: FakeTime, sleep: Callable[[float], asyncio.Future[None]] | None = None
) -> ConcurrencyLimiter:
    table = ItemTable(fake, TABLE)
    return ConcurrencyLimiter(table, "call-details", limit, clock=time, sleep=sleep or time.sleep)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.none() | st.integers(0, 9), st.floats(0, 60)),
        max_size=40,
    ),
    st.integers(1, 12),
)
def test_holders_that_heed_their_leases_never_have_more_than_the_limit(
    steps: list[tuple[str, int, int | None, float]], limit: int
) -> None:
    time = FakeTime()
    permits = permits_of(FakeLedgerTable(), limit, time)
    held: dict[str, Grant] = {}
    for holder, wish, at_most, pause in steps:
        held[holder] = permits.refresh(holder, wish, at_most=at_most)
        assert held[holder].count <= wish
        assert held[holder].until <= time.now + LEASE_SECONDS
        assert sum(grant.count for grant in held.values() if grant.until + SKEW_SECONDS > time.now) <= limit
        time.now += pause


def test_what_is_free_is_given_up_to_the_share() -> None:
    time = FakeTime()
    permits = permits_of(FakeLedgerTable(), 50, time)
    assert [permits.refresh(name, 25).count for name in "ab"] == [25, 25]
    waiting = permits.refresh("c", 25)
    assert (waiting.count, waiting.share) == (0, 17)
    assert [permits.refresh(name, 25).share for name in "ab"] == [16, 17], "they see who waits"
    assert [permits.refresh(name, 25, at_most=17).count for name in "ab"] == [17, 17]
    assert permits.refresh("c", 25).count == 16
    permits.refresh("a", 0)
    assert [permits.refresh(name, 25).count for name in "bc"] == [25, 25]


def test_permits_of_a_dead_holder_come_back_when_its_lease_is_over_for_sure() -> None:
    time = FakeTime()
    permits = permits_of(FakeLedgerTable(), 50, time)
    permits.refresh("dead", 50)
    time.now += LEASE_SECONDS
    assert permits.refresh("next", 50).count == 0, "the dead one's clock may be behind"
    time.now += SKEW_SECONDS
    assert permits.refresh("next", 50).count == 50


def test_one_that_died_waiting_keeps_nothing_from_the_others() -> None:
    time = FakeTime()
    permits = permits_of(FakeLedgerTable(), 50, time)
    permits.refresh("a", 50)
    assert permits.refresh("dead", 50).count == 0
    time.now += LEASE_SECONDS - 1
    assert permits.refresh("a", 50).share == 25
    time.now += SKEW_SECONDS + 1
    assert permits.refresh("a", 50).share == 50


def test_lower_limit_holds_for_what_is_renewed() -> None:
    time, fake = FakeTime(), FakeLedgerTable()
    before = permits_of(fake, 50, time)
    before.refresh("a", 30)
    before.refresh("b", 20)
    after = permits_of(fake, 25, time)
    assert after.refresh("b", 20).count == 0
    assert after.refresh("a", 30).count == 25
    assert after.refresh("b", 20).count == 0


async def test_holder_that_was_stopped_for_longer_than_its_lease_begins_no_call() -> None:
    time = FakeTime()
    stopped = asyncio.Event()

    async def never(_: float) -> None:
        await stopped.wait()

    held = PermitLease(permits_of(FakeLedgerTable(), 5, time, sleep=never), 5)
    keeping = asyncio.create_task(held.keep())
    async with held.permit():
        pass
    # A call that began now could still be under way when the lease ends.
    time.now += LEASE_SECONDS - CALL_SECONDS - SKEW_SECONDS + 0.001
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), held.permit():
            pass
    keeping.cancel()


async def test_no_more_calls_at_once_than_permits_over_many_tasks() -> None:
    fake, limit, tasks = FakeLedgerTable(), 7, 12
    at_once, most, calls = 0, 0, 0

    async def task(number: int) -> None:
        nonlocal at_once, most, calls
        # Each with a clock of its own, as on machines of their own.
        permits = permits_of(fake, limit, FakeTime(1_000_000.0 + number % 3), lambda _: _soon())

        async def call(held: PermitLease) -> None:
            nonlocal at_once, most, calls
            async with held.permit():
                at_once += 1
                most = max(most, at_once)
                while most < limit:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(random.uniform(0, 0.003))
                at_once -= 1
                calls += 1

        async with permits.hold(4) as held:
            await asyncio.gather(*(call(held) for _ in range(10)))

    async def _wait() -> None:
        await asyncio.sleep(0.002)

    def _soon() -> asyncio.Future[None]:
        return asyncio.ensure_future(_wait())

    await asyncio.gather(*(task(number) for number in range(tasks)))
    assert calls == tasks * 10
    assert most == limit
    (item,) = fake.items.values()
    assert item["holders"]["M"] == {}, "all were given back"


async def test_call_that_fails_gives_its_permit_to_the_next() -> None:
    time = FakeTime()
    async with permits_of(FakeLedgerTable(), 1, time).hold(1) as held:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with held.permit():
                    raise ZeroDivisionError


def test_block_that_fails_gives_all_back() -> None:
    fake = FakeLedgerTable()

    async def run() -> None:
        async with permits_of(fake, 5, FakeTime()).hold(5) as held:
            async with held.permit():
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert [item["holders"]["M"] for item in fake.items.values()] == [{}]


async def test_renewal_under_way_does_not_take_again_what_is_given_back() -> None:
    fake, asking, answer = FakeLedgerTable(), Event(), Event()

    def wait() -> None:
        if not asking.is_set():
            asking.set()
            assert answer.wait(60)

    lease = PermitLease(permits_of(fake, 5, FakeTime()), 5)
    await lease.renew()
    fake.before["get_item"] = wait
    renewing = asyncio.create_task(lease.renew())
    await asyncio.to_thread(asking.wait)
    renewing.cancel()
    giving_back = asyncio.create_task(lease.give_back())
    given_back, _ = await asyncio.wait([giving_back], timeout=0.1)
    answer.set()
    await giving_back
    assert not given_back
    assert [item["holders"]["M"] for item in fake.items.values()] == [{}]


async def test_table_that_is_down_for_a_while_is_waited_for() -> None:
    fake, time = FakeLedgerTable(), FakeTime()
    fake.before["get_item"] = raising(table_error("InternalServerError", 500))
    async with permits_of(fake, 5, time).hold(5) as held:
        while len(time.slept) < 5:
            await asyncio.sleep(0)
        fake.before.clear()
        async with held.permit():
            pass


def test_table_that_stays_down_ends_the_waiting() -> None:
    fake, time = FakeLedgerTable(), FakeTime()

    async def run() -> None:
        async with permits_of(fake, 5, time).hold(5) as held:
            async with held.permit():
                fake.before["get_item"] = raising(table_error("InternalServerError", 500))
            time.now += LEASE_SECONDS
            async with held.permit():
                pytest.fail("its lease is over")

    started = time.now
    with pytest.raises(NoPermitError):
        asyncio.run(run())
    assert time.now - started >= WAIT_SECONDS


@pytest.mark.parametrize(("wish", "least", "most"), [(5, 10, 10), (6, 0.5, 1.5)])
def test_who_has_all_that_it_wants_asks_seldom(wish: int, least: float, most: float) -> None:
    time = FakeTime()

    async def run() -> None:
        async with permits_of(FakeLedgerTable(), 5, time).hold(wish):
            while len(time.slept) < 5:
                await asyncio.sleep(0)

    asyncio.run(run())
    assert all(least <= pause <= most for pause in time.slept)


def test_task_that_gets_no_permit_leaves_its_worker_to_others() -> None:
    fake, time = FakeLedgerTable(), FakeTime()
    keep_taken = permits_of(fake, 1, time)
    keep_taken.refresh("other", 1)

    async def run() -> None:
        async def renewing_other(seconds: float) -> None:
            await time.sleep(seconds)
            keep_taken.refresh("other", 1)

        permits = ConcurrencyLimiter(ItemTable(fake, TABLE), "call-details", 1, clock=time, sleep=renewing_other)
        async with permits.hold(1) as held, held.permit():
            pytest.fail("there is none")

    started = time.now
    with pytest.raises(NoPermitError):
        asyncio.run(run())
    # One pause until it is seen, and one that has begun when it is told: each up to one and a half times the usual.
    assert WAIT_SECONDS <= time.now - started <= WAIT_SECONDS + 3 * POLL_SECONDS


async def test_missing_table_ends_the_waiting() -> None:
    fake = FakeLedgerTable()
    fake.before["get_item"] = raising(table_error("ResourceNotFoundException"))
    with pytest.raises(AwsRefusedError):
        async with permits_of(fake, 5, FakeTime()).hold(5) as held, held.permit():
            pytest.fail("there is none")
