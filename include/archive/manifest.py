"""The day's manifest: every client of the run accounted for (spec: archive, Summary)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from include.archive.outcomes import Outcome, Result
from include.archive.plan import Plan

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
