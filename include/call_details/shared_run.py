"""A run that many small files share: claimed, planned, posted and closed together, and each accounted for by itself.

The run's key names a list of files. Planning it gives a document with a plan for each file; the claims of files that
were never planned before point to it, so it is never replaced: each attempt writes its own. What is read or written for
every file is read or written for many at once, or left out where it is known; a file that this does not suit goes the
way of a file with a run of its own, and whatever happens to it costs no other.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from include.call_details.keys import SHARED, shared_key, shared_plan_key
from include.call_details.keys import run_id as own_run_id
from include.call_details.ledger import Claims, chunk_state, first_chunks, read_chunks
from include.call_details.models import TASKS_AT_ONCE, Claim, Done, FileVersion, Plan, Terms
from include.call_details.planner import Planner
from include.call_details.reconcile import Closing, Known, SavedReceipt
from include.call_details.storage import FileStore
from include.errors import (
    FileChangedError,
    InvalidFileError,
    PermanentError,
    PipelineError,
    RunRefusedError,
    TransientError,
    describe,
)

FILES_PER_TASK = 150
"""A task takes a second to start, and so many files take it some seconds."""

_WORKERS = 8
_BYTES_OF_A_FILE = 64 * 1024
"""What a file costs besides its bytes, in bytes."""


def is_list(key: str) -> bool:
    """Whether a run's key names a list of files."""
    return key.startswith(SHARED)


def add_files(store: FileStore, run_id: str, files: Sequence[FileVersion]) -> str:
    """List files that are to share a run, beside those that are listed already; returns the list's key."""
    key = shared_key(run_id)
    listed = store.read_json(key) or []
    wanted = [[file.key, file.etag] for file in files]
    store.write_json(key, listed + [each for each in wanted if each not in listed])
    return key


def read_files(store: FileStore, key: str) -> list[FileVersion]:
    """The files of a list; raises RunRefusedError if there is no such list (any more)."""
    listed = store.read_json(key)
    if listed is None:
        raise RunRefusedError(f"param key: there is no list {key!r} in bucket {store.bucket}: give a file's key")
    return [FileVersion(store.bucket, *each) for each in listed]


@dataclass(frozen=True)
class Member:
    """A file of a shared run, as planning left it.

    Args:
        plan: None if there is nothing to post.
        done_by: the run that has accounted for it, if one has.
        error: why it could not be planned.
        unreadable: the reason is the file itself.
        passing: the reason may pass.
    """

    file: FileVersion
    plan: Plan | None = None
    done_by: str | None = None
    error: str | None = None
    unreadable: bool = False
    passing: bool = False


@dataclass(frozen=True)
class SharedPlan:
    """What planning a list left under ``key``: the files, in the order of the list."""

    key: str
    members: tuple[Member, ...]

    @property
    def slices(self) -> list[tuple[Member, ...]]:
        """The files with something to post, divided among tasks; of about the same size."""
        posted = [member for member in self.members if member.plan is not None and member.plan.chunks]
        weights = [_BYTES_OF_A_FILE + member.plan.text_bytes for member in posted if member.plan is not None]
        tasks = min(TASKS_AT_ONCE, max(-(-len(posted) // FILES_PER_TASK), -(-sum(weights) // (64 * 1024 * 1024))))
        found: list[list[Member]] = [[] for _ in range(tasks)]
        before = 0
        for member, weight in zip(posted, weights, strict=True):
            found[before * tasks // sum(weights)].append(member)
            before += weight
        return [tuple(each) for each in found if each]

    def to_document(self) -> dict[str, Any]:
        """A JSON document; :func:`read_shared_plan` reads it back. Its plans are found by ``Plan.of``."""
        members = [{**vars(member), "file": asdict(member.file), "plan": None} for member in self.members]
        plans = [member.plan.to_document() for member in self.members if member.plan is not None]
        return {"members": members, "plans": plans}


def read_shared_plan(store: FileStore, key: str) -> SharedPlan:
    """The plan under a key; raises FileChangedError if it is gone."""
    document = store.read_json(key)
    if document is None:
        raise FileChangedError(f"s3://{store.bucket}/{key} is gone: clear the task 'plan'")
    plans = {plan.file: plan for plan in map(Plan.from_document, document["plans"])}
    members = (Member(**{**each, "file": FileVersion(**each["file"])}) for each in document["members"])
    return SharedPlan(key, tuple(replace(member, plan=plans.get(member.file)) for member in members))


def plan_files(
    planner: Planner, files: Sequence[FileVersion], *, list_key: str, run_id: str, force: bool = False
) -> SharedPlan:
    """Claim files and cut them; one that cannot be is left to its :class:`Member`."""
    store, claims = planner.store, planner.claims
    seen = claims.items(files)

    def draft(file: FileVersion) -> Plan | None:
        if claims.unplanned(file, run_id, seen.get(file.partition)) is None:
            return None
        try:
            return planner.draft(file)
        except PipelineError:
            # The other way raises it again, once the claim is begun.
            return None

    def begin(file: FileVersion, drafted: Plan | None) -> Member:
        item = seen.get(file.partition)
        claim = claims.unplanned(file, run_id, item)
        try:
            if drafted is not None and claim is not None and item is not None:
                terms = Terms(drafted.records_per_batch, drafted.timestamp)
                if claims.begin(claim, item, terms=terms, plan=first.key):
                    return Member(file, drafted)
            found = planner.claim(file, run_id, force=force)
            return Member(file, done_by=found.owner) if isinstance(found, Done) else Member(file, planner.plan(found))
        except PipelineError as error:
            unreadable, passing = isinstance(error, InvalidFileError), isinstance(error, TransientError)
            return Member(file, error=describe(error), unreadable=unreadable, passing=passing)

    def saved(members: tuple[Member, ...]) -> SharedPlan:
        made = SharedPlan(shared_plan_key(list_key, uuid.uuid4().hex), members)
        store.write_json(made.key, made.to_document())
        return made

    with ThreadPoolExecutor(_WORKERS) as workers:
        drafts = list(workers.map(draft, files))
        first = saved(tuple(map(Member, files, drafts)))
        members = tuple(workers.map(begin, files, drafts))
    return first if members == first.members else saved(members)


def claimed(claims: Claims, members: Sequence[Member], run_id: str) -> Iterator[tuple[Claim, Plan]]:
    """The claims of those files that are still the run's, with their plans."""
    seen = claims.items(member.file for member in members)
    for member in members:
        claim = claims.owned(member.file, run_id, seen.get(member.file.partition))
        if claim is not None and member.plan is not None:
            yield claim, member.plan


@dataclass(frozen=True)
class Closed:
    """How a file of a shared run ended: its receipt of this run, or why it has none, if that is a failure."""

    member: Member
    saved: SavedReceipt | None = None
    reason: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the run has failed for this file."""
        return self.saved.outcome.failed if self.saved else self.reason is not None

    @property
    def outcome(self) -> str:
        """How the file ended, as far as this run is concerned."""
        if self.saved is not None:
            return self.saved.outcome.value
        if self.member.done_by is not None:
            return "ingested before"
        return "left to another run" if self.reason is None else "not ingested"


def close_files(
    store: FileStore,
    claims: Claims,
    members: Sequence[Member],
    *,
    run_id: str,
    started_at: datetime,
    now: Callable[[], datetime],
) -> list[Closed]:
    """Account for every file, each by itself; one that a passing fault kept from being planned gets a run of its own.

    Both times are aware.
    """
    pointers = claims.pointers(member.file for member in members)
    seen = claims.items(member.file for member in members)
    owned = {member.file: claims.owned(member.file, run_id, seen.get(member.file.partition)) for member in members}
    chunks = first_chunks(claims.table, [claim for claim in owned.values() if claim is not None])

    def known(claim: Claim, plan: Plan) -> Known:
        partition = claim.file.partition
        state = chunk_state(chunks[partition])
        states = tuple(read_chunks(claims.table, claim)) if len(plan.chunks) > 1 else (state,) if state else ()
        return Known(claim, seen[partition], pointers.get(partition), plan, states)

    def close(member: Member) -> Closed:
        closing = Closing(store, claims, member.file, run_id, started_at, now())
        claim = owned[member.file]
        if member.done_by is not None:
            return Closed(member)
        try:
            if member.passing:
                if claim is not None:
                    claims.hand_over(claim, own_run_id(member.file))
                return Closed(member)
            if member.error is not None:
                saved = (closing.unreadable if member.unreadable else closing.not_planned)(member.error)
                return Closed(member, saved, member.error)
            if claim is not None and member.plan is not None:
                with suppress(FileChangedError):
                    return Closed(member, replace(closing, known=known(claim, member.plan)).planned())
            return Closed(member, closing.planned())
        except PermanentError as error:
            # Also one that S3 refuses: the others' receipts and alerts must not wait for it.
            return Closed(member, reason=describe(error))

    with ThreadPoolExecutor(_WORKERS) as workers:
        return list(workers.map(close, members))


def totals(closed: Sequence[Closed]) -> dict[str, Any]:
    """What became of the files of a shared run: how many ended how, and the records of those that have a receipt."""
    receipts = [each.saved.document for each in closed if each.saved is not None]
    counts = ("records_read", "records_accepted", "records_dead_lettered")
    return {
        "files": len(closed),
        "outcomes": dict(Counter(each.outcome for each in closed)),
        **{name: sum(receipt[name] for receipt in receipts) for name in counts},
    }
