"""What a run of the archive is made of: its clients, its plan, the API's responses, outcomes, and the manifest.

The plan is fixed once, at the start of the run, and kept in S3: XCom carries references only. What became of each
client is what a retry resumes from and what the manifest is made of.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from importlib import resources
from typing import Any

from include.errors import InvalidAnswerError, RunRefusedError
from include.mapped_work import Slice, cut_bounds
from include.text import is_strict_json, json_text, one_line, refuse_constant

_SHOWN = 10

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")

_MAX_NAME = 200
"""A client's name is for people; every mapped task loads the names of all."""

_MAX_LABEL = 80
"""Of a mapped task; Airflow takes 250, and all of a run's are in one XCom."""

CALLS_AT_ONCE = 256
"""Calls of the DEX API by all tasks of a run at once: what was announced to its owner."""

TASKS_AT_ONCE = 16
"""Tasks of a run that archive at once, as its DAG says."""


@dataclass(frozen=True)
class Client:
    """A row of the client query: ``ClientID``, and the name for people."""

    id: int
    name: str


_NAME_AS_BYTES = f"CONVERT(varbinary({4 * _MAX_NAME}), CONVERT(nvarchar({2 * _MAX_NAME}), c.name))"


def client_query(*, names_as_bytes: bool = False) -> str:
    """The SQL that selects ``(ClientID, name)`` of every client to archive, ordered by ``ClientID``.

    With ``names_as_bytes``, for SQL Server alone, names come in UTF-16, so that no driver has to decode them.
    """
    query = resources.files("include.sql").joinpath("dex_clients.sql").read_text(encoding="utf-8")
    return query.replace("c.name", _NAME_AS_BYTES) if names_as_bytes else query


def clients_from_rows(rows: Iterable[Sequence[Any]]) -> tuple[list[Client], list[tuple[str, str]]]:
    """Clients in the order of the rows, one per ``ClientID``, with printable names of bounded length.

    And of each row whose ``ClientID`` is no integer its name, and what is wrong: it is not to cost the other clients
    their archives.
    """
    clients: dict[int, Client] = {}
    unusable: list[tuple[str, str]] = []
    for row in rows:
        name = row[1]
        # What is no UTF-16 is of a database other than SQL Server, in a column of bytes.
        if isinstance(name, bytes) and len(name) % 2 == 0:
            name = name.decode("utf-16-le", "surrogatepass")
        name = one_line(str(name or ""), _MAX_NAME)
        try:
            client_id = int(row[0])
            # int() would also read "1_000", as another client than the one that is meant.
            exact = _INTEGER.fullmatch(row[0]) if isinstance(row[0], str) else row[0] == client_id
            if isinstance(row[0], bool) or not exact:
                raise ValueError(row[0])
        except (TypeError, ValueError, OverflowError):
            shown = one_line(repr(row[0]), _MAX_NAME)
            unusable.append((name, f"ClientID {shown} in table Client is not an integer; correct or remove the row"))
        else:
            clients.setdefault(client_id, Client(client_id, name))
    return list(clients.values()), unusable


def select(clients: Sequence[Client], wanted: Sequence[int | str] | None) -> list[Client]:
    """All clients, or only those with the ids of the param ``client_ids``, in their order.

    Ids are numbers or texts of digits, as the trigger form sends texts; of a blank line it sends a blank one.

    Raises:
        RunRefusedError: an id that is no eligible client, or an empty list.
    """
    if wanted is None:
        return list(clients)
    chosen = {int(each) for each in wanted if str(each).strip()}
    if not chosen:
        raise RunRefusedError("param client_ids is an empty list; leave it out to archive every client")
    unknown = sorted(chosen - {client.id for client in clients})
    if unknown:
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
        raise RunRefusedError(
            f"param client_ids: {shown} not among the {len(clients)} clients that the query selects "
            "(has credentials and one of the services 2, 3, 4, 5, 8); nothing was archived"
        )
    return [client for client in clients if client.id in chosen]


_OF_PLAN = ("run_id", "clear_number", "force", "concurrency", "base_url")
"""What a plan's document has under the same names."""


@dataclass(frozen=True)
class Plan:
    """One run's work.

    Args:
        clear_number: how often the run had been cleared when it was planned.
        day: the trigger date, the same for every task, also when the run crosses midnight.
        force: an empty answer may replace a non-empty archive.
        concurrency: calls that one task runs at once.
        base_url: of the API where its connection names none.
        slices: cover all clients, in order, without overlap.
        lock: mode and days of S3 Object Lock for what the run writes: see :func:`include.archive.store.lock_until`.
        unusable: name of each client that has no usable id, and why; of these no day has an account.
    """

    run_id: str
    clear_number: int
    day: date
    force: bool
    concurrency: int
    base_url: str
    clients: tuple[Client, ...]
    slices: tuple[Slice, ...]
    lock: tuple[str, int] = ("NONE", 0)
    unusable: tuple[tuple[str, str], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """A JSON document; :meth:`from_document` reads it back."""
        return {
            **{name: getattr(self, name) for name in _OF_PLAN},
            "trigger_date": self.day.isoformat(),
            "lock": self.lock,
            "unusable": self.unusable,
            "clients": [[client.id, client.name] for client in self.clients],
            "slices": [[piece.start, piece.stop, piece.label] for piece in self.slices],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Plan:
        """The plan that :meth:`to_document` wrote, or the release before."""
        return cls(
            **{name: document[name] for name in _OF_PLAN},
            day=date.fromisoformat(document["trigger_date"]),
            lock=tuple(document.get("lock", ("NONE", 0))),
            unusable=tuple((name, why) for name, why in document.get("unusable", ())),
            clients=tuple(Client(*client) for client in document["clients"]),
            slices=tuple(Slice(*piece) for piece in document["slices"]),
        )


def cut(clients: Sequence[Client], *, max_tasks: int, clients_per_task: int) -> tuple[Slice, ...]:
    """Cut the clients into at most ``max_tasks`` slices; see :func:`include.mapped_work.cut_bounds`."""
    bounds = cut_bounds(len(clients), max_tasks=max_tasks, per_task=clients_per_task)
    return tuple(Slice(start, stop, _label(clients[start:stop])) for start, stop in bounds)


def calls_of_task(most: int, *, tasks: int) -> int:
    """Calls that each of a run's tasks may make at once, at ``most``: few tasks share what is announced for all."""
    return min(most, CALLS_AT_ONCE // max(1, min(tasks, TASKS_AT_ONCE)))


def _label(clients: Sequence[Client]) -> str:
    first, last = clients[0], clients[-1]
    if len(clients) == 1:
        return one_line(f"{first.id} {first.name}", _MAX_LABEL)
    return f"{first.id}-{last.id} ({len(clients)} clients)"


@dataclass(frozen=True)
class Response:
    """A valid response of the DEX API: its body, byte for byte; ``empty`` = the JSON document is ``[]`` or ``{}``."""

    body: bytes = field(repr=False)
    sha256: str
    empty: bool


def read_response(body: bytes) -> Response:
    """Check that ``body`` is a JSON document (RFC 8259) other than ``null``, in UTF-8, or in UTF-16 or UTF-32.

    RFC 8259 has UTF-8 alone; those before it had the others too, and some servers of Windows still write them.

    Raises:
        InvalidAnswerError: empty body, invalid JSON, or ``null``. The message never quotes the body.
    """
    if not body.strip():
        raise _unusable("an empty body")
    try:
        # A byte order mark is no part of JSON, but a parser may ignore it (RFC 8259, 8.1). It stays in the archive.
        text = json_text(body).removeprefix("\ufeff")
        document = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _unusable("a body that is in none of UTF-8, UTF-16 and UTF-32") from error
    except RecursionError as error:
        if not is_strict_json(text.encode()):
            raise _unusable("invalid JSON") from error
        document = text
    except ValueError as error:
        raise _unusable("HTML or XML" if body.lstrip()[:1] == b"<" else "invalid JSON") from error
    if document is None:
        raise _unusable("null")
    return Response(body, hashlib.sha256(body).hexdigest(), empty=document in ([], {}))


def _unusable(what: str) -> InvalidAnswerError:
    return InvalidAnswerError(f"DEX API answered 200 with {what}; nothing was archived")


# Integers are left as text: their size is the partner's business, and Python limits their digits.
_DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_int=str)


class Result(StrEnum):
    """How a client ended."""

    ARCHIVED = "archived"
    """The first archive of that client and day."""
    UPDATED = "updated"
    """A new version: the answer differs from the one kept before."""
    UNCHANGED = "unchanged"
    """The answer is the one kept before; nothing was written."""
    FAILED = "failed"
    """Nothing was written; ``error`` says why."""


@dataclass(frozen=True)
class ClientOutcome:
    """One client's outcome. ``key``, ``sha256``, ``bytes`` and ``version_id`` are None when it failed.

    Args:
        bytes: length of the archived body.
        error: why it failed, without body or secret.
        retry_after: seconds that the API asked to wait.
    """

    client_id: int
    outcome: Result
    key: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    version_id: str | None = None
    error: str | None = None
    retryable: bool = False
    retry_after: float | None = None

    @property
    def item(self) -> int:
        """The client."""
        return self.client_id

    @property
    def failed(self) -> bool:
        """Whether nothing was written."""
        return self.outcome is Result.FAILED

    @property
    def reason(self) -> str | None:
        """Why it failed."""
        return self.error


def count_outcomes(outcomes: Sequence[str]) -> dict[str, int]:
    """Numbers of a manifest. ``unchanged`` counts among ``successful_archives``: the evidence is in place."""
    failed = outcomes.count(Result.FAILED)
    return {
        "total_clients": len(outcomes),
        "successful_archives": len(outcomes) - failed,
        "failed_archives": failed,
        "unchanged": outcomes.count(Result.UNCHANGED),
    }


@dataclass(frozen=True)
class Manifest:
    """What a run did: an outcome per client of its plan, in the plan's order; those without a usable id failed too."""

    plan: Plan
    outcomes: tuple[ClientOutcome, ...]

    @property
    def counts(self) -> dict[str, int]:
        """See :func:`count_outcomes`."""
        unusable = [Result.FAILED] * len(self.plan.unusable)
        return count_outcomes([outcome.outcome for outcome in self.outcomes] + unusable)

    def summary(self) -> dict[str, Any]:
        """The manifest without its line per client."""
        names = {client.id: client.name for client in self.plan.clients}
        return {
            "trigger_date": self.plan.day.isoformat(),
            "run_id": self.plan.run_id,
            **self.counts,
            "errors": [
                {"client_id": id_, "client_name": name, "error": error}
                for id_, name, error in (
                    *((each.client_id, names[each.client_id], each.error) for each in self.outcomes if each.failed),
                    *((None, name, why) for name, why in self.plan.unusable),
                )
            ],
        }

    def to_document(self) -> dict[str, Any]:
        """The JSON document that goes to S3."""
        names = {client.id: client.name for client in self.plan.clients}
        return {
            **self.summary(),
            "clients": [
                {
                    "client_id": outcome.client_id,
                    "client_name": names[outcome.client_id],
                    **{name: getattr(outcome, name) for name in ("key", "sha256", "bytes", "version_id")},
                    "outcome": outcome.outcome.value,
                    "run_id": self.plan.run_id,
                }
                for outcome in self.outcomes
            ],
        }
