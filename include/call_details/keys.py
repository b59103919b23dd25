"""Names that a file version determines: keys in the ingest bucket, idempotency keys, the run's id.

No file can be dropped under the project's own keys: to move one of these raises InvalidInputError.

They are the same whoever makes them, and however often::

    incoming/<name>                             where files are dropped (setting incoming_prefix)
    processing/<etag>/<name>                    claimed
    processed/<yyyy>/<mm>/<dd>/<etag>/<name>    accounted for, the UTC day on which it was
    failed/<etag>/<name>                        cannot be read
    receipts/<key>.<etag>.json                  what became of each record
    plans/<key>.<etag>/<round>.json             how it was cut; expires
    plans/rounds/<run>.json                     which runs a round of the watcher starts; expires
    plans/shared/<run>.json                     files that share a run; expires
    plans/shared/<run>/<attempt>.json           how they were cut; expires
    dead-letter/<key>/<batch>.json              the request body of a batch that could not be delivered

``<key>`` is the key under which the file was dropped, with its ``incoming/``; ``<name>`` is without. Of a file that
was dropped elsewhere, ``<name>`` is ``~/`` and its whole key: so moved files tell where they came from, whatever the
setting is by then. The ETag keeps two versions of a file apart, of which one may arrive while the other is being read;
the bodies of dead letters are told apart by the bucket's own version ids. S3 allows 1,024 bytes for a key: the end of
a key that is too long is replaced by ``~`` and a digest of it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from include.call_details.models import FileVersion, digest
from include.errors import InvalidInputError

INCOMING = "incoming/"
PROCESSED = "processed/"
SHARED = "plans/shared/"
OWN_PREFIXES = ("processing/", PROCESSED, "failed/", "receipts/", "plans/", "dead-letter/")

_ELSEWHERE = "~/"

_MAX_BYTES = 1024
_DIGEST = 32
_MOVED = re.compile(r"(?:processing|processed/\d{4}/\d{2}/\d{2}|failed)/(?P<etag>[^/]+)/(?P<name>.+)", re.DOTALL)
# Cutting a key to size may leave up to three bytes unused, as a character has up to four.
_CUT_BYTES = _MAX_BYTES - 3
_CUT = re.compile(rf"~[0-9a-f]{{{_DIGEST}}}\Z")

_NOT_IN_A_RUN_ID = re.compile(r"[^A-Za-z0-9_.~-]+")
_SHARED_RUN = "files__"
_READABLE = 100
_IDENTITY_DIGEST = 24


@dataclass(frozen=True)
class Incoming:
    """Which objects of the bucket are dropped files.

    Args:
        prefix: of their keys; empty = the whole bucket, but for the project's own prefixes.
        ignored: patterns of names (``fnmatch``, in any case) that an upload still under way has.
    """

    prefix: str
    ignored: tuple[str, ...]

    def takes(self, key: str) -> bool:
        """Whether a key is that of a file to ingest."""
        return key.startswith(self.prefix) and is_file(key) and not self._ignores(key)

    def lies_beside(self, key: str) -> bool:
        """Whether a key is that of a file which was dropped, but not under the prefix."""
        return not key.startswith(self.prefix) and is_file(key) and not self._ignores(key)

    def _ignores(self, key: str) -> bool:
        name = key.rpartition("/")[2].lower()
        return any(fnmatchcase(name, pattern.lower()) for pattern in self.ignored)


def is_file(key: str) -> bool:
    """Whether a file may have been dropped under a key: not a folder marker, and not what the project itself wrote."""
    return bool(key) and not key.endswith("/") and not key.startswith(OWN_PREFIXES)


def past_own(key: str) -> str | None:
    """After which key to list on, if this is one of the project's own: past all that begin as it does. Else None.

    Nothing of these expires, so there may be any number.
    """
    own = next((own for own in OWN_PREFIXES if key.startswith(own)), None)
    # Not before the key itself, which may go on with that character.
    return None if own is None else max(key, f"{own}{chr(sys.maxunicode)}")


def processing_key(file: FileVersion) -> str:
    """Where a claimed file is moved to."""
    return _fit(f"processing/{file.etag}/", _name(file))


def processed_key(file: FileVersion, day: date) -> str:
    """Where a file goes that was accounted for on ``day`` (UTC)."""
    return _fit(f"{processed_prefix(day)}{file.etag}/", _name(file))


def processed_prefix(day: date) -> str:
    """What the keys of the files begin with that were accounted for on ``day`` (UTC)."""
    return f"{PROCESSED}{day.isoformat().replace('-', '/')}/"


def processed_day(key: str) -> date:
    """The day in a key of :func:`processed_key`."""
    return date.fromisoformat(key.removeprefix(PROCESSED)[:10].replace("/", "-"))


def failed_key(file: FileVersion) -> str:
    """Where a file goes that cannot be read."""
    return _fit(f"failed/{file.etag}/", _name(file))


def receipt_key(file: FileVersion) -> str:
    """Key of a file version's receipt."""
    return _fit("receipts/", file.key, f".{file.etag}.json")


def plan_key(file: FileVersion, posting_round: int) -> str:
    """Key of the plan by which a file version is posted for the ``posting_round``-th time."""
    return _fit("plans/", file.key, f".{file.etag}/{posting_round:06d}.json")


def round_key(watch_run_id: str) -> str:
    """Where a round of the watcher keeps which runs it starts."""
    return _fit("plans/rounds/", watch_run_id, ".json")


def shared_key(shared_run: str) -> str:
    """Key of the list of the files that share a run."""
    return f"{SHARED}{shared_run}.json"


def shared_plan_key(list_key: str, attempt: str) -> str:
    """Where an attempt at planning keeps the plans of the files of a list."""
    return f"{list_key.removesuffix('.json')}/{attempt}.json"


def dead_letter_key(file: FileVersion, batch: int) -> str:
    """Key of the body of a batch that could not be delivered; two versions of a file share it."""
    return _fit("dead-letter/", file.key, f"/{batch:06d}.json")


def origin(bucket: str, key: str) -> FileVersion | None:
    """Which version a moved file is; None if its key does not tell, as it was not moved from here or had to be cut."""
    found = _MOVED.fullmatch(key)
    if found is None or (len(key.encode()) >= _CUT_BYTES and _CUT.search(key)):
        return None
    name = found["name"]
    key = name.removeprefix(_ELSEWHERE) if name.startswith(_ELSEWHERE) else f"{INCOMING}{name}"
    return FileVersion(bucket, key, found["etag"])


def _name(file: FileVersion) -> str:
    if not is_file(file.key):
        raise InvalidInputError(f"key {file.key!r} is not one under which a file can be dropped")
    name = file.key.removeprefix(INCOMING)
    return name if file.key.startswith(INCOMING) and not name.startswith(_ELSEWHERE) else f"{_ELSEWHERE}{file.key}"


def _fit(before: str, own: str, after: str = "") -> str:
    whole = f"{before}{own}{after}"
    if len(whole.encode()) <= _MAX_BYTES:
        return whole
    mark = f"~{hashlib.sha256(own.encode()).hexdigest()[:_DIGEST]}"
    room = _MAX_BYTES - len(f"{before}{mark}{after}".encode())
    return f"{before}{own.encode()[:room].decode('utf-8', 'ignore')}{mark}{after}"


def file_version(bucket: str, key: str, etag: str) -> FileVersion:
    """A file version as S3 announces it: some answers have the ETag in quotes, some have not."""
    return FileVersion(bucket, key, etag.strip('"'))


def idempotency_key(file: FileVersion, batch: int) -> str:
    """The ``Idempotency-Key`` of a batch, numbered from 0: 64 hexadecimal digits.

    The number must stand for the same records whenever the version is posted again, so the records per batch of a
    version never change (see :class:`include.call_details.models.Terms`).
    """
    return digest(file.bucket, file.key, file.etag, batch)


def run_id(file: FileVersion) -> str:
    """The id of the run that ingests a file version: what can be read of the key's end, and a digest.

    Airflow allows letters, digits and ``_.~:+-`` in an id that somebody chooses.
    """
    readable = _NOT_IN_A_RUN_ID.sub("_", file.key.removeprefix(INCOMING))[-_READABLE:]
    return f"file__{readable}__{digest(file.bucket, file.key, file.etag)[:_IDENTITY_DIGEST]}"


def shared_run_id(files: Sequence[FileVersion]) -> str:
    """The id of a run that files share: how many, what can be read of the first one's key, and a digest of all."""
    first = _NOT_IN_A_RUN_ID.sub("_", files[0].key.removeprefix(INCOMING))[-_READABLE:]
    identity = digest(*(part for file in files for part in (file.bucket, file.key, file.etag)))
    return f"{_SHARED_RUN}{len(files)}_from_{first}__{identity[:_IDENTITY_DIGEST]}"


def is_shared_run(run: str) -> bool:
    """Whether an id is that of a run that files share."""
    return run.startswith(_SHARED_RUN)
