"""The last step of a run: the receipt is written, the file moved on, the claim completed, in that order.

Each can be done again, so a run that dies in between is closed by its retry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.clients.items import ItemTable
from include.errors import ClaimLostError
from include.ingest.accounting import account
from include.ingest.claim import Claim, Done, FileVersion
from include.ingest.claims import Claims
from include.ingest.files import FileStore
from include.ingest.keys import PROCESSED, failed_key, processed_key, receipt_key
from include.ingest.ledger import read_chunks
from include.ingest.plan import Plan
from include.ingest.planning import find, known_plan, read_plan
from include.ingest.receipt import Outcome, Receipt


@dataclass(frozen=True)
class KeptReceipt:
    """A receipt as it lies in the bucket.

    Args:
        key: where.
        document: see :meth:`include.ingest.receipt.Receipt.to_document`; ``stored_as`` beside it is the file's key, or
            None if the file is gone.
    """

    key: str
    document: dict[str, Any]

    @property
    def outcome(self) -> Outcome:
        """How the file version ended."""
        return Outcome(self.document["outcome"])


@dataclass(frozen=True)
class Closing:
    """Closes one run.

    Args:
        store: the bucket.
        table: the ledger table.
        claims: of that table.
        file: the version that the run is about.
        run_id: the run: the claim's owner.
        started_at: an aware time.
        now: an aware time; the file is filed under its UTC day.
    """

    store: FileStore
    table: ItemTable
    claims: Claims
    file: FileVersion
    run_id: str
    started_at: datetime
    now: datetime

    def planned(self) -> KeptReceipt:
        """Account for a file that was planned, as far as its chunks have come.

        Raises:
            ClaimLostError: another run has taken over, or has done it.
            FileChangedError: the run's papers are gone.
            TransientError: S3 or DynamoDB failed; a retry may work.
            PermanentError: they refused.
        """
        claim = self._claim()
        if isinstance(claim, KeptReceipt):
            return claim
        receipt = self._account(claim, read_plan(self.store, claim))
        if receipt.outcome is Outcome.INCOMPLETE:
            return self._keep_open(claim, receipt)
        # A file that was filed before, or was to be when an earlier attempt died, goes to that same place.
        before = self.store.paper(receipt_key(self.file)) or {"stored_as": None}
        place = before["stored_as"] or ""
        if not place.startswith(PROCESSED):
            place = processed_key(self.file, self.now.date())
        stored = find(self.store, self.file)
        kept = self._keep(receipt, place if stored else None)
        if stored is not None:
            self.store.move(stored, place)
        self.claims.complete(claim, kept.key)
        return kept

    def unreadable(self, error: str) -> KeptReceipt | None:
        """Account for a file that cannot be read at all. It is not done by that: to deliver it again is to try again.

        Args:
            error: why.

        Returns:
            None if it was posted again by force: what its first round has left stays as it is.

        Raises:
            ClaimLostError: another run has taken over, or has done it.
            TransientError: S3 or DynamoDB failed; a retry may work.
            PermanentError: they refused.
        """
        claim = self._claim()
        if isinstance(claim, KeptReceipt):
            return None
        stored = find(self.store, self.file)
        if claim.round > 1:
            self.claims.complete(claim, receipt_key(self.file))
            return None
        kept = self._keep(self._nothing_read(Outcome.UNREADABLE, error), failed_key(self.file) if stored else None)
        if stored is not None:
            self.store.move(stored, failed_key(self.file))
        self.claims.forget(claim)
        return kept

    def given_up(self, error: str) -> KeptReceipt | None:
        """Leave word of a run that could not plan its file. The file stays where it is, for the next attempt.

        Args:
            error: why.

        Returns:
            None if the file is not this run's, or its receipt tells of an earlier round, and more than this run can.

        Raises:
            ClaimLostError: another run has taken over in this moment.
            TransientError: S3 or DynamoDB failed; a retry may work.
            PermanentError: they refused.
        """
        try:
            claim = self.claims.current(self.file, self.run_id)
        except ClaimLostError:
            return None
        plan = known_plan(self.store, claim)
        if plan is not None:
            return self._keep_open(claim, self._account(claim, plan, error))
        before = self.store.paper(receipt_key(self.file))
        if before is None or Outcome(before["outcome"]) in (Outcome.NOT_PLANNED, Outcome.UNREADABLE):
            return self._keep_open(claim, self._nothing_read(Outcome.NOT_PLANNED, error))
        self.claims.release(claim)
        return None

    def _claim(self) -> Claim | KeptReceipt:
        """The run's claim, or what the run has left if it closed the file before and died."""
        answer = self.claims.claim(self.file, self.run_id)
        if isinstance(answer, Claim):
            return answer
        if isinstance(answer, Done) and answer.owner == self.run_id:
            document = self.store.paper(answer.receipt)
            if document is not None:
                return KeptReceipt(answer.receipt, document)
        raise ClaimLostError(f"run {answer.owner} has taken over {self.file.key} ({self.file.etag}), or has done it")

    def _account(self, claim: Claim, plan: Plan, error: str | None = None) -> Receipt:
        return account(
            plan,
            read_chunks(self.table, claim),
            run_id=self.run_id,
            started_at=self.started_at,
            finished_at=self.now,
            error=error,
        )

    def _nothing_read(self, outcome: Outcome, error: str) -> Receipt:
        return Receipt(self.file, self.run_id, self.started_at, self.now, error=error, nothing_read=outcome)

    def _keep_open(self, claim: Claim, receipt: Receipt) -> KeptReceipt:
        """The receipt of a file that stays where it is, if it still is anywhere; whoever comes next may have it."""
        stored = find(self.store, self.file)
        kept = self._keep(receipt, stored.key if stored else None)
        self.claims.release(claim)
        return kept

    def _keep(self, receipt: Receipt, stored_as: str | None) -> KeptReceipt:
        kept = KeptReceipt(receipt_key(self.file), receipt.to_document() | {"stored_as": stored_as})
        self.store.keep_paper(kept.key, kept.document)
        return kept
