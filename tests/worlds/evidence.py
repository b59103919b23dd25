"""An archive with its manifests and ledger, made by the product's own steps from answers that a test names."""

from datetime import date, timedelta
from typing import Any

from include.archive.manifests import record_run
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, read_response
from include.archive.store import ArchiveStore
from ops.environment import Environment
from tests.worlds.s3 import VersionedBucket, at_once


class Bucket(Environment):
    """An environment that has nothing but one bucket, its session, and parameters of its stack."""

    def output(self, name: str) -> str:
        return str(self.session.bucket)

    def parameter(self, name: str, default: str) -> str:
        return str(self.stack.get(name, default))

    def aws(self, service: str, *, connections: int = 10, attempts: int = 3) -> Any:
        return self.session


FIRST = date(2026, 3, 1)
CLIENTS = (1, 2, 3)


def archive(s3: VersionedBucket, run_id: str, day: date, answers: dict[int, bytes | None]) -> None:
    """One run from its answers to its summary; None is a client that failed."""
    summarize(s3, run_id, day, save(s3, day, answers))


def save(s3: VersionedBucket, day: date, answers: dict[int, bytes | None]) -> tuple[ClientOutcome, ...]:
    store = ArchiveStore(s3, s3.bucket)
    return tuple(
        ClientOutcome(client, Result.FAILED, error="refused")
        if body is None
        else at_once(store.save(client, day, read_response(body), force=True))
        for client, body in answers.items()
    )


def summarize(
    s3: Any,
    run_id: str,
    day: date,
    outcomes: tuple[ClientOutcome, ...],
    *,
    bucket: str = "",
    lock: dict[str, Any] | None = None,
) -> None:
    """The last step of a run; a client of boto3 needs the bucket's name."""
    bucket = bucket or s3.bucket
    clients = tuple(Client(outcome.client_id, f"Client {outcome.client_id}") for outcome in outcomes)
    document = Manifest(Plan(run_id, 0, day, True, 1, "", clients, ()), outcomes).to_document()
    record_run(s3, bucket, document, lock=lock)


def three_days(s3: VersionedBucket) -> None:
    for number in range(3):
        day = FIRST + timedelta(days=number)
        archive(s3, f"run {number}", day, {client: b'{"client": %d}' % client for client in CLIENTS})
