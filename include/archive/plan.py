"""What a run is going to do, fixed once at its start and kept in S3, so that XCom carries references only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from include.archive.roster import Client
from include.slices import Slice, cut_bounds


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
    """Cut the clients into at most ``max_tasks`` slices; see :func:`include.slices.cut_bounds`."""
    bounds = cut_bounds(len(clients), max_tasks=max_tasks, per_task=clients_per_task)
    return tuple(Slice(start, stop, _label(clients[start:stop])) for start, stop in bounds)


def _label(clients: Sequence[Client]) -> str:
    first, last = clients[0].id, clients[-1].id
    return str(first) if len(clients) == 1 else f"{first}-{last} ({len(clients)} clients)"
