"""What a run is going to do, fixed once at its start and kept in S3, so that XCom carries references only.

The clients of a run: read from the database's rows, narrowed by the run's params.

What became of each client: what a retry resumes from and what the manifest is made of.

The day's manifest: every client of the run accounted for (spec: archive, Summary).

What counts as an answer worth keeping (spec: archive, Valid answers).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

from include import mapped_work
from include.errors import InvalidAnswerError, InvalidInputError
from include.mapped_work import Progress, Slice, cut_bounds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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


@dataclass(frozen=True)
class Plan:
    """One run's work.

    Args:
        clear_number: how often the run had been cleared when it was planned.
        day: the trigger date, the same for every task, also when the run crosses midnight.
        force: an empty answer may replace a non-empty archive.
        concurrency: calls that one task runs at once.
        base_url: base URL of the API where its connection names none.
        clients: ordered by id.
        slices: cover all clients, in order, without overlap.
    """

    run_id: str
    clear_number: int
    day: date
    force: bool
    concurrency: int
    base_url: str
    clients: tuple[Client, ...]
    slices: tuple[Slice, ...]

    def to_document(self) -> dict[str, Any]:
        """A JSON document; :meth:`from_document` reads it back."""
        return {
            "run_id": self.run_id,
            "clear_number": self.clear_number,
            "trigger_date": self.day.isoformat(),
            "force": self.force,
            "concurrency": self.concurrency,
            "base_url": self.base_url,
            "clients": [[client.id, client.name] for client in self.clients],
            "slices": [[piece.start, piece.stop, piece.label] for piece in self.slices],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Plan:
        """The plan that :meth:`to_document` wrote."""
        return cls(
            run_id=document["run_id"],
            clear_number=document["clear_number"],
            day=date.fromisoformat(document["trigger_date"]),
            force=document["force"],
            concurrency=document["concurrency"],
            base_url=document["base_url"],
            clients=tuple(Client(*client) for client in document["clients"]),
            slices=tuple(Slice(*piece) for piece in document["slices"]),
        )


def cut(clients: Sequence[Client], *, max_tasks: int, clients_per_task: int) -> tuple[Slice, ...]:
    """Cut the clients into at most ``max_tasks`` slices; see :func:`include.mapped_work.cut_bounds`."""
    bounds = cut_bounds(len(clients), max_tasks=max_tasks, per_task=clients_per_task)
    return tuple(Slice(start, stop, _label(clients[start:stop])) for start, stop in bounds)


def _label(clients: Sequence[Client]) -> str:
    first, last = clients[0].id, clients[-1].id
    return str(first) if len(clients) == 1 else f"{first}-{last} ({len(clients)} clients)"


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
class Outcome:
    """One client's outcome. ``key``, ``sha256``, ``bytes`` and ``version_id`` are None when it failed.

    Args:
        bytes: length of the archived body.
        error: why it failed, without body or secret.
        retryable: a retry may mend the failure.
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

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The outcome whose fields are in ``document``."""
        return cls(**{**document, "outcome": Result(document["outcome"])})


class OutcomeFile(mapped_work.OutcomeFile[Outcome]):
    """The outcomes of one mapped task, by client id."""

    def __init__(self, s3: S3Client, bucket: str, key: str, *, clear_number: int) -> None:
        super().__init__(Outcome, s3, bucket, key, clear_number=clear_number)


def read_outcomes(s3: S3Client, bucket: str, key: str, *, index: int, progress: Progress) -> list[Outcome]:
    """The outcomes of a slice's task; see :func:`include.mapped_work.read_outcomes`."""
    return mapped_work.read_outcomes(Outcome, s3, bucket, key, index=index, progress=progress)


NO_OUTCOME = "no outcome: the task was killed, timed out or never ran; see its log"
"""Error of a client whose task left nothing behind."""


@dataclass(frozen=True)
class Manifest:
    """What a run did.

    Args:
        plan: what it was to do.
        outcomes: one per client of the plan, in the plan's order.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...]

    @property
    def counts(self) -> dict[str, int]:
        """``unchanged`` counts among ``successful_archives``: the evidence is in place."""
        failed = len(self.failures)
        return {
            "total_clients": len(self.outcomes),
            "successful_archives": len(self.outcomes) - failed,
            "failed_archives": failed,
            "unchanged": sum(outcome.outcome is Result.UNCHANGED for outcome in self.outcomes),
        }

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes of the clients that failed."""
        return [outcome for outcome in self.outcomes if outcome.outcome is Result.FAILED]

    def summary(self) -> dict[str, Any]:
        """The manifest without its line per client."""
        names = {client.id: client.name for client in self.plan.clients}
        return {
            "trigger_date": self.plan.day.isoformat(),
            "run_id": self.plan.run_id,
            **self.counts,
            "errors": [
                {
                    "client_id": failure.client_id,
                    "client_name": names[failure.client_id],
                    "error": failure.error,
                }
                for failure in self.failures
            ],
        }

    def to_document(self) -> dict[str, Any]:
        """The JSON document that goes to S3."""
        return {
            **self.summary(),
            "clients": [
                {
                    "client_id": outcome.client_id,
                    "key": outcome.key,
                    "sha256": outcome.sha256,
                    "bytes": outcome.bytes,
                    "version_id": outcome.version_id,
                    "outcome": outcome.outcome.value,
                }
                for outcome in self.outcomes
            ],
        }


def account(plan: Plan, found: Sequence[Iterable[Outcome]], *, why_no_outcome: Callable[[int], str | None]) -> Manifest:
    """Match outcomes with the plan's clients; a client without one has failed.

    Args:
        plan: what the run was to do.
        found: the outcomes of each slice of the plan.
        why_no_outcome: what is known, by slice index, of a task that left some of its clients without one.
    """
    outcomes: list[Outcome] = []
    for index, (piece, left) in enumerate(zip(plan.slices, found, strict=True)):
        by_client = {outcome.client_id: outcome for outcome in left}
        clients = plan.clients[piece.start : piece.stop]
        missing = any(client.id not in by_client for client in clients)
        error = (why_no_outcome(index) or NO_OUTCOME) if missing else None
        outcomes += [by_client.get(client.id) or Outcome(client.id, Result.FAILED, error=error) for client in clients]
    return Manifest(plan, tuple(outcomes))


@dataclass(frozen=True)
class Answer:
    """A valid answer of the DEX API.

    Args:
        body: the response body, byte for byte.
        sha256: hex digest of the body.
        empty: the JSON document is ``[]`` or ``{}``.
    """

    body: bytes = field(repr=False)
    sha256: str
    empty: bool


def read_answer(body: bytes) -> Answer:
    """Check that ``body`` is a JSON document (RFC 8259, UTF-8) other than ``null``.

    Raises:
        InvalidAnswerError: empty body, invalid JSON, or ``null``. The message never quotes the body.
    """
    if not body.strip():
        raise InvalidAnswerError("DEX API answered 200 with an empty body; nothing was archived")
    try:
        # Integers are left as text: their size is the partner's business, and Python limits their digits.
        # A byte order mark is no part of JSON, but a parser may ignore it (RFC 8259, 8.1). It stays in the archive.
        document = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=str)
    except UnicodeDecodeError as error:
        raise InvalidAnswerError("DEX API answered 200 with a body that is not UTF-8") from error
    except RecursionError as error:
        raise InvalidAnswerError("DEX API answered 200 with JSON nested too deep to check") from error
    except ValueError as error:
        kind = "HTML" if body.lstrip()[:1] == b"<" else "invalid JSON"
        raise InvalidAnswerError(f"DEX API answered 200 with {kind}; nothing was archived") from error
    if document is None:
        raise InvalidAnswerError("DEX API answered 200 with null; nothing was archived")
    return Answer(body, hashlib.sha256(body).hexdigest(), empty=document in ([], {}))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
