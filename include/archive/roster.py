"""The clients of a run: read from the database's rows, narrowed by the run's params."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from include.errors import InvalidInputError

_SHOWN = 10


@dataclass(frozen=True)
class Client:
    """A row of the client query.

    Args:
        id: ``ClientID``.
        name: the client's name, for people.
    """

    id: int
    name: str


def client_query() -> str:
    """The SQL that selects ``(ClientID, name)`` of every client to archive, ordered by ``ClientID``."""
    return resources.files("include.sql").joinpath("dex_clients.sql").read_text(encoding="utf-8")


def clients_from_rows(rows: Iterable[Sequence[Any]]) -> list[Client]:
    """Clients in the order of the rows, one per ``ClientID``.

    Args:
        rows: ``(ClientID, name)`` as the database driver gives them.

    Raises:
        InvalidInputError: a ``ClientID`` that is not an integer.
    """
    clients: dict[int, Client] = {}
    for row in rows:
        try:
            client_id = int(row[0])
            if isinstance(row[0], bool) or (not isinstance(row[0], str) and row[0] != client_id):
                raise ValueError(row[0])
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInputError(
                f"the client database returned ClientID {row[0]!r}, not an integer; check table Client"
            ) from error
        clients.setdefault(client_id, Client(client_id, str(row[1] or "")))
    return list(clients.values())


def select(clients: Sequence[Client], wanted: Sequence[int] | None) -> list[Client]:
    """All clients, or only those with the ids of the param ``client_ids``, in the roster's order.

    Raises:
        InvalidInputError: an id that is no eligible client, or an empty list.
    """
    if wanted is None:
        return list(clients)
    if not wanted:
        raise InvalidInputError("param client_ids is an empty list; leave it out to archive every client")
    chosen = set(wanted)
    unknown = sorted(chosen - {client.id for client in clients})
    if unknown:
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
        raise InvalidInputError(
            f"param client_ids: {shown} not among the {len(clients)} clients that the query selects "
            "(has credentials and one of the services 2, 3, 4, 5, 8); nothing was archived"
        )
    return [client for client in clients if client.id in chosen]
