import hashlib
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from lambdas.events_api.api_keys import (
    ITERATIONS,
    MAX_AGE_SECONDS,
    MAX_CACHED,
    NO_KEY,
    ApiKey,
    ApiKeyStore,
    Denial,
    DeniedError,
    KeyHash,
    KeysUnavailableError,
    KeyUsage,
    dynamodb_client,
    id_of,
    is_key,
    is_owner,
    new_key,
)
from lambdas.tools.api_keys import KeyTable
from tests.worlds.dynamodb import FakeTable, table_error

CREATED = "2026-03-02T09:30:00.000Z"
AUTHORIZER_SECONDS = 10


class World:
    """A table of keys, and a function that has asked it for none yet."""

    def __init__(self) -> None:
        self.now = 1_772_443_800.0
        self.table = FakeTable("api-keys", "key_id")
        self.keys = KeyTable(self.table, "api-keys")
        self.store = ApiKeyStore(self.table, "api-keys", clock=lambda: self.now)

    def usage(self, limit: int) -> KeyUsage:
        """Another copy of the function."""
        return KeyUsage(self.table, "api-keys", limit=limit, clock=lambda: self.now)

    def create(self, owner: str = "owner-1") -> str:
        return self.keys.create(owner, None, CREATED)

    def denied(self, key: str) -> str:
        """Why a key is."""
        with pytest.raises(DeniedError) as caught:
            self.store.find(key)
        assert key not in str(caught.value) or not key
        return str(caught.value)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Work of every hash that was computed, in iterations."""
    work: list[int] = []
    real = hashlib.pbkdf2_hmac

    def count(*arguments: Any) -> bytes:
        work.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", count)
    return work


def test_new_keys_have_the_form_of_a_key_and_differ() -> None:
    made = {new_key() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(map(is_key, made))
    assert {len(key) for key in made} == {35}


def test_hash_of_a_key_does_not_hold_the_key_and_differs_each_time() -> None:
    key = new_key()
    one, two = KeyHash.of(key), KeyHash.of(key)
    assert one.hash != two.hash
    assert one.salt != two.salt
    assert one.matches(key)
    assert two.matches(key)
    assert not one.matches(new_key())
    assert not NO_KEY.matches(key)
    assert key[3:] not in str(one)


@pytest.mark.parametrize("owner", ["a", "test-user", "A.b_c-9@example", "x" * 100])
def test_name_of_an_owner_is_taken(owner: str) -> None:
    assert is_owner(owner)


@pytest.mark.parametrize("owner", ["", "x" * 101, "a b", "a#pending", "a\n", "\na", "-a", ".", "ż", "a/b"])
def test_text_that_is_no_name_of_an_owner_is_refused(owner: str) -> None:
    assert not is_owner(owner)


def test_key_is_found_with_its_owner(world: World) -> None:
    key, other = world.create(), world.create("owner-2")
    assert world.store.find(key) == ApiKey("owner-1", id_of(key))
    assert world.store.find(other) == ApiKey("owner-2", id_of(other))


@pytest.mark.parametrize(
    "key",
    [
        *("", "sk_", "x", "sk_" + "a" * 31, "sk_" + "a" * 33, "pk_" + "a" * 32, "SK_" + "a" * 32, "a" * 35),
        *("sk_" + "a" * 31 + "-", "sk_" + "a" * 31 + "ż", "sk_" + "a" * 31 + "١", "sk_" + "a" * 32 + "\n"),
        *("sk_" + "a" * 32 + ",sk_" + "a" * 32, "sk_" + "a" * 100_000, "sk_ " + "a" * 31, "🏭"),
    ],
    ids=lambda key: key[:10],
)
def test_what_is_no_key_is_denied_without_asking(world: World, key: str) -> None:
    assert world.denied(key) == "malformed"
    assert not world.table.calls


def test_key_with_a_known_id_and_another_end_is_denied(world: World) -> None:
    key = world.create()
    for place in (-1, 12):
        other = key[:place] + ("a" if key[place] != "a" else "b") + key[place:][1:]
        assert id_of(other) == id_of(key)
        assert world.denied(other) == "unknown"


def test_denial_costs_the_same_whatever_the_reason(world: World, hashed: list[int]) -> None:
    """Else its time would tell whether the id is known."""
    key, revoked = world.create(), world.create()
    world.keys.revoke(id_of(revoked), CREATED)
    hashed.clear()
    for wrong in (new_key(), key[:-1] + ("a" if key[-1] != "a" else "b"), revoked):
        world.denied(wrong)
    assert hashed == [ITERATIONS] * 3
    assert world.table.calls["get_item"] == 3


def test_key_is_checked_once_and_cache_for_a_minute(world: World, hashed: list[int]) -> None:
    key = world.create()
    hashed.clear()
    for _ in range(60):
        world.store.find(key)
        world.now += MAX_AGE_SECONDS / 60
    assert (world.table.calls["get_item"], len(hashed)) == (1, 1)
    world.store.find(key)
    assert (world.table.calls["get_item"], len(hashed)) == (2, 2)


def test_revoked_key_opens_nothing_after_a_minute(world: World) -> None:
    assert MAX_AGE_SECONDS <= 60
    key = world.create()
    world.store.find(key)
    world.keys.revoke(id_of(key), CREATED)
    world.now += MAX_AGE_SECONDS - 0.1
    assert world.store.find(key).owner == "owner-1"
    world.now += 0.1
    assert world.denied(key) == "revoked"
    world.now -= MAX_AGE_SECONDS / 2
    assert world.denied(key) == "revoked"


def test_clock_that_was_set_back_makes_no_key_last_longer(world: World) -> None:
    key = world.create()
    world.store.find(key)
    world.keys.revoke(id_of(key), CREATED)
    world.now -= 3_600
    assert world.denied(key) == "revoked"


def test_denial_is_not_cached(world: World) -> None:
    key = world.create()
    item = world.table.items.pop(id_of(key))
    assert world.denied(key) == "unknown"
    world.table.items[id_of(key)] = item
    assert world.store.find(key).owner == "owner-1"


def test_memory_does_not_grow_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *arguments: b"hash")
    for _ in range(MAX_CACHED + 10):
        world.store.find(world.create())
    assert len(world.store._cache) <= MAX_CACHED


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (table_error("ThrottlingException"), "ThrottlingException"),
        (table_error("AccessDeniedException"), "AccessDeniedException"),
        (EndpointConnectionError(endpoint_url="https://dynamodb.invalid"), "EndpointConnectionError"),
    ],
    ids=["throttled", "denied", "unreachable"],
)
def test_table_out_of_reach_is_no_denial(world: World, failure: Exception, says: str) -> None:
    key = world.create()
    world.table.faults = iter([failure])
    with pytest.raises(KeysUnavailableError, match=says):
        world.store.find(key)
    assert world.store.find(key).owner == "owner-1"


def test_table_is_given_up_before_the_function_has_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = dynamodb_client().meta.config
    tries = config.retries["total_max_attempts"]
    assert tries * (config.connect_timeout + config.read_timeout) + 2 ** (tries - 1) - 1 < AUTHORIZER_SECONDS / 2


def admitted(*copies: KeyUsage, key_id: str, requests: int) -> int:
    """How many of so many requests are, given to copies of the function in turn."""
    count = 0
    for number in range(requests):
        try:
            copies[number % len(copies)].count(key_id)
        except DeniedError as error:
            if error.denial is not Denial.THROTTLED:
                raise
            continue
        count += 1
    return count


def test_key_makes_as_many_requests_in_a_minute_as_it_may(world: World) -> None:
    one, other = id_of(world.create()), id_of(world.create())
    usage = world.usage(50)
    assert admitted(usage, key_id=one, requests=80) == 50
    assert admitted(usage, key_id=other, requests=80) == 50, "each key has a limit of its own"
    world.now += 60
    assert admitted(usage, key_id=one, requests=80) == 50, "the next minute counts anew"


def test_copies_of_the_function_count_together_but_for_the_parts_they_have_not_yet_written(world: World) -> None:
    key_id = id_of(world.create())
    copies = [world.usage(1000) for _ in range(4)]
    assert 1000 <= admitted(*copies, key_id=key_id, requests=3000) <= 1000 + 4 * 10
    writes = world.table.calls["update_item"]
    assert writes <= 110, "a request in ten is a write, and none when the limit is reached"


def test_copy_that_begins_a_minute_late_takes_nothing_back(world: World) -> None:
    key_id = id_of(world.create())
    first, late = world.usage(10), world.usage(10)
    assert admitted(first, key_id=key_id, requests=8) == 8
    world.now -= 60
    admitted(late, key_id=key_id, requests=3)
    world.now += 60
    assert admitted(world.usage(10), key_id=key_id, requests=8) == 2


def test_key_is_not_limited_while_the_table_fails_beyond_what_one_copy_sees(world: World) -> None:
    key_id = id_of(world.create())
    usage = world.usage(5)
    world.table.faults = iter([table_error("ThrottlingException")] * 8)
    assert admitted(usage, key_id=key_id, requests=8) == 5


def test_counting_makes_no_key(world: World) -> None:
    admitted(world.usage(5), key_id="unknown0", requests=3)
    assert world.table.items == {}
