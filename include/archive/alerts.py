"""The one alert of a run (spec: archive, Summary)."""

from __future__ import annotations

from include.alerts import Alert, RunRef, Section, Severity
from include.archive.models import Manifest

LIST_TASK = "list_clients"
ARCHIVE_TASK = "archive_client"
SECTION = Section.ARCHIVE_RUN


def digest(manifest: Manifest, run: RunRef, *, uri: str) -> Alert | None:
    """The alert that the run's end calls for: failed clients, no clients at all, or None."""
    plan, counts = manifest.plan, manifest.counts
    facts = [f"trigger date: {plan.day}", f"manifest: {uri}"]
    if not plan.clients:
        headline = f"no client to archive for {plan.day}: the query selects none"
        return run.alert(Severity.WARNING, headline, [*facts, f"log: {run.log_url(LIST_TASK, None)}"], section=SECTION)
    if not counts["failed_archives"]:
        return None
    failures = [
        run.failure(f"client {client.id} ({client.name})", outcome.error, ARCHIVE_TASK, index)
        for index, piece in enumerate(plan.slices)
        for client, outcome in zip(
            plan.clients[piece.start : piece.stop], manifest.outcomes[piece.start : piece.stop], strict=True
        )
        if outcome.failed
    ]
    headline = f"{counts['failed_archives']} of {counts['total_clients']} clients not archived for {plan.day}"
    return run.alert(Severity.ERROR, headline, facts, failures, section=SECTION)


def not_listed(run: RunRef, *, reason: str) -> Alert:
    """The alert of a run that never had clients to work on."""
    failure = run.failure("the list of clients", reason, LIST_TASK)
    return run.alert(Severity.ERROR, "no client was archived: listing them failed", (), [failure], section=SECTION)
