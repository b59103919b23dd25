import re
import sqlite3
from decimal import Decimal
from typing import Any

import pytest

from include.archive.models import Client, client_query, clients_from_rows, select
from include.errors import RunRefusedError

CLIENTS = [Client(3, "Three"), Client(7, "Seven"), Client(9, "Nine")]


def test_rows_become_clients_in_their_order() -> None:
    rows = [
        (9, "Nine"),
        (3.0, "Three"),
        (Decimal(7), "Seven"),
        (Decimal("12.0"), "Twelve"),
        ("15", "Text"),
        (" 16\n", "Blanks"),
    ]
    assert clients_from_rows(rows)[0] == [
        Client(9, "Nine"),
        Client(3, "Three"),
        Client(7, "Seven"),
        Client(12, "Twelve"),
        Client(15, "Text"),
        Client(16, "Blanks"),
    ]


def test_client_with_two_names_is_one_client() -> None:
    assert clients_from_rows([(3, "Three"), (3, "Third"), (7, None)]) == ([Client(3, "Three"), Client(7, "")], [])


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "x",
        "",
        "12.7",
        3.5,
        float("nan"),
        float("inf"),
        Decimal("12.7"),
        Decimal("NaN"),
        True,
        False,
        b"\x00",
        "1_000",
        "１２",
    ],
)
def test_client_id_that_is_no_integer_costs_only_its_row_and_is_shown(bad: Any) -> None:
    clients, unusable = clients_from_rows([(bad, "Bad"), (3, "Three")])
    assert clients == [Client(3, "Three")]
    assert unusable == [("Bad", f"ClientID {bad!r} in table Client is not an integer; correct or remove the row")]


def test_names_are_printable_and_bounded() -> None:
    ((client,), _) = clients_from_rows([(3, "Ac\x1bme\r\n\ud800 " + "x" * 4000)])
    assert client.name.startswith("Ac\\x1bme \\ud800 xxx")
    assert len(client.name) == 200


def test_name_that_the_driver_did_not_decode_is_read_and_half_a_surrogate_pair_escaped() -> None:
    rows = [(3, "Łódź \U0001f33a".encode("utf-16-le")), (7, b"A\x00\x88\xdcB\x00"), (9, None), (11, b"odd")]
    assert clients_from_rows(rows)[0] == [
        Client(3, "Łódź \U0001f33a"),
        Client(7, "A\\udc88B"),
        Client(9, ""),
        Client(11, "b'odd'"),
    ]


def test_client_id_that_is_no_integer_is_shown_printable_and_short() -> None:
    _, [(name, why)] = clients_from_rows([("\x1b" * 5000, "Bad\x1b")])
    assert f"{name}{why}".isprintable()
    assert len(why) < 400


def test_no_param_means_all() -> None:
    assert select(CLIENTS, None) == CLIENTS


def test_selected_clients_keep_the_order_of_the_query() -> None:
    assert select(CLIENTS, [9, 3, 9]) == [CLIENTS[0], CLIENTS[2]]


def test_ids_may_be_texts_of_digits_as_the_form_sends_them() -> None:
    assert select(CLIENTS, ["9", 3]) == [CLIENTS[0], CLIENTS[2]]
    with pytest.raises(RunRefusedError, match=r"client_ids: 4 not among"):
        select(CLIENTS, ["4"])


def test_unknown_ids_are_named_and_nothing_is_selected() -> None:
    with pytest.raises(RunRefusedError, match=r"client_ids: 4, 5 not among the 3 clients"):
        select(CLIENTS, [3, 5, 4])


def test_many_unknown_ids_are_cut_short() -> None:
    with pytest.raises(RunRefusedError, match=r"10, \.\.\. not among") as caught:
        select([], list(range(1, 100)))
    assert len(str(caught.value)) < 300


def test_blank_lines_and_blanks_of_the_form_name_nobody() -> None:
    assert select(CLIENTS, [" 9", "", "\t"]) == [CLIENTS[2]]


@pytest.mark.parametrize("nobody", [[], [""], [" ", "\n"]])
def test_param_that_names_nobody_is_refused(nobody: list[str]) -> None:
    with pytest.raises(RunRefusedError, match="empty list"):
        select(CLIENTS, nobody)


def test_query_is_the_one_of_the_contract() -> None:
    words = re.sub(r"\s+", " ", client_query()).lower()
    assert words.startswith("select distinct c.clientid, c.name from client c")
    assert "clientserviceext cs" in words
    assert "c.oauth2clientcredentialsid is not null" in words
    assert "cs.serviceid in (2, 8, 3, 4, 5)" in words
    assert words.rstrip().endswith("order by c.clientid")
    of_bytes = client_query(names_as_bytes=True)
    assert "SELECT DISTINCT c.ClientID, CONVERT(varbinary(800), CONVERT(nvarchar(400), c.name))\nFROM" in of_bytes


def test_query_selects_only_clients_with_credentials_and_a_service() -> None:
    with sqlite3.connect(":memory:") as database:
        database.executescript(
            """
            CREATE TABLE Client (ClientID INTEGER, name TEXT, OAuth2ClientCredentialsID INTEGER);
            CREATE TABLE ClientServiceExt (ClientID INTEGER, ServiceID INTEGER);
            INSERT INTO Client VALUES (30, 'two services', 1), (4, 'service 5', 2),
                (5, 'no credentials', NULL), (6, 'other service', 3),
                (7, 'no service', 4), (2, 'service 2', 5);
            INSERT INTO ClientServiceExt VALUES (30, 3), (30, 8), (4, 5), (5, 2), (6, 1), (6, 6), (2, 2);
            """
        )
        rows = database.execute(client_query()).fetchall()
    database.close()
    assert rows == [(2, "service 2"), (4, "service 5"), (30, "two services")]
