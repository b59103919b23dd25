"""The one alert of a run (spec: archive, Summary)."""

from __future__ import annotations

from collections.abc import Callable

from include.alerts import Alert, Failure, Severity
from include.archive.models import Manifest, Result

LIST_TASK = "list_clients"
ARCHIVE_TASK = "archive_client"

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


def digest(manifest: Manifest, *, pipeline: str, location: str, log_url: LogUrl) -> Alert | None:
    """The alert that the run's end calls for: failed clients, no clients at all, or None.

    Args:
        manifest: what the run did.
        pipeline: id of the DAG.
        log_url: makes links to logs.
        location: where the manifest lies.
    """
    plan, counts = manifest.plan, manifest.counts
    facts = [f"trigger date: {plan.day}", f"manifest: {location}"]
    if not plan.clients:
        return Alert(
            Severity.WARNING,
            pipeline,
            plan.run_id,
            f"no client to archive for {plan.day}: the query selects none",
            [*facts, f"log: {log_url(LIST_TASK, None)}"],
        )
    if not counts["failed_archives"]:
        return None
    failures = []
    for index, piece in enumerate(plan.slices):
        positions = range(piece.start, piece.stop)
        for client, outcome in ((plan.clients[i], manifest.outcomes[i]) for i in positions):
            if outcome.outcome is Result.FAILED:
                failures.append(
                    Failure(
                        f"client {client.id} ({client.name})",
                        outcome.error or "no reason given",
                        ARCHIVE_TASK,
                        index,
                        log_url(ARCHIVE_TASK, index),
                    )
                )
    return Alert(
        Severity.ERROR,
        pipeline,
        plan.run_id,
        f"{counts['failed_archives']} of {counts['total_clients']} clients not archived for {plan.day}",
        facts,
        failures,
    )


def not_listed(*, pipeline: str, run_id: str, reason: str, log_url: LogUrl) -> Alert:
    """The alert of a run that never had clients to work on."""
    failure = Failure("the list of clients", reason, LIST_TASK, None, log_url(LIST_TASK, None))
    return Alert(Severity.ERROR, pipeline, run_id, "no client was archived: listing them failed", (), [failure])
