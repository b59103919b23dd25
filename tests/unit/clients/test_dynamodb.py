import pytest

from include.clients.dynamodb import Item, ItemTable
from include.errors import AwsUnavailableError
from tests.worlds.dynamodb import TABLE, FakeLedgerTable, table_error
from tests.worlds.s3 import raising


def table_of(fake: FakeLedgerTable, pauses: list[float] | None = None) -> ItemTable:
    return ItemTable(fake, TABLE, sleep=(pauses if pauses is not None else []).append)


def test_many_items_are_read_in_few_calls() -> None:
    fake = FakeLedgerTable()
    table = table_of(fake)
    keys = [(f"file#{number}", "claim") for number in range(250)]
    for pk, sk in keys:
        table.replace(Item(pk, sk), {"name": pk})
    found = list(table.get_many([*keys, ("file#none", "claim")]))
    assert sorted((item.pk, item.sk) for item in found) == sorted(keys)
    assert all(item.content == {"name": item.pk} and item.version == 1 for item in found)
    assert fake.calls["batch_get_item"] == 3
    assert list(table.get_many([])) == []


def test_what_dynamodb_leaves_unread_is_asked_for_again() -> None:
    fake, pauses = FakeLedgerTable(), list[float]()
    table = table_of(fake, pauses)
    for number in range(10):
        table.replace(Item("pk", str(number)), {})
    fake.batch_size = 4
    assert sorted(item.sk for item in table.get_many(("pk", str(number)) for number in range(10))) == list("0123456789")
    assert len(pauses) == 2


def test_reading_that_goes_on_being_refused_is_an_error_that_passes() -> None:
    fake, pauses = FakeLedgerTable(), list[float]()
    fake.batch_size = 0
    with pytest.raises(AwsUnavailableError, match="leaves keys of a group unread"):
        list(table_of(fake, pauses).get_many([("pk", "1")]))
    assert 0 < sum(pauses) < 15
    fake.before["batch_get_item"] = raising(table_error("ProvisionedThroughputExceededException"))
    with pytest.raises(AwsUnavailableError):
        list(table_of(fake).get_many([("pk", "1")]))
