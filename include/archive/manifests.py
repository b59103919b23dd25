"""The two manifests: of a run, and of a day, which is merged over all runs of it (spec: archive, Summary)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

from include.archive.keys import manifest_key, run_manifest_key
from include.archive.ledger import Entry, Ledger, Newest, SavedManifest, sha256
from include.archive.models import Result, count_outcomes
from include.clients.s3 import CONDITION_FAILED, get_object, json_bytes, put_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Document = dict[str, Any]

_COUNTS = ("total_clients", "successful_archives", "failed_archives", "unchanged")


def merged(day: Document | None, run: Document, saved: SavedManifest, *, earlier: Document | None = None) -> Document:
    """The day's manifest after a run.

    Each client has the line of the last run that selected it. Where a run was cleared, what its ``earlier`` manifest
    has as well does not replace what another run has archived since: perhaps only other clients were asked for anew. A
    run that is merged already changes nothing. A day's manifest of before the ledger counts as one run of the day.
    """
    if day is not None and "runs" not in day:
        names = {item["client_id"]: item["client_name"] for item in day["errors"]}
        lines = [
            {"client_name": names.get(line["client_id"], ""), **line, "run_id": day["run_id"]}
            for line in day["clients"]
        ]
        day = {**day, "clients": lines, "runs": [{"run_id": day["run_id"], "manifest": None, "sha256": None}]}
    place = {"manifest": saved.key, "version_id": saved.version_id, "sha256": saved.sha256}
    this = {"run_id": run["run_id"], **place}
    if day is not None and this in day["runs"]:
        return day
    clients, before = _by_client(day), _by_client(earlier)
    for client, found in _by_client(run).items():
        if found != before.get(client) or clients[client][0]["outcome"] == Result.FAILED:
            clients[client] = found
    ordered = [clients[client] for client in sorted(clients)]
    return {
        "trigger_date": run["trigger_date"],
        "run_id": run["run_id"],
        **count_outcomes([line["outcome"] for line, _ in ordered]),
        "errors": [error for line, error in ordered if line["outcome"] == Result.FAILED],
        "clients": [line for line, _ in ordered],
        "runs": [*(day["runs"] if day else ()), this],
    }


def _by_client(manifest: Document | None) -> dict[int, tuple[Document, Document | None]]:
    """Each client's line and its error, if it has one."""
    if manifest is None:
        return {}
    errors = {item["client_id"]: item for item in manifest["errors"]}
    return {line["client_id"]: (line, errors.get(line["client_id"])) for line in manifest["clients"]}


class Manifests:
    """The manifests of one archive bucket; ``lock`` as :func:`include.archive.store.lock_until` gives it."""

    def __init__(self, s3: S3Client, bucket: str, lock: dict[str, Any] | None = None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._lock = lock or {}

    def save_run(self, day: date, run_id: str, document: Document) -> SavedManifest:
        """Save a run's manifest, once: a repeated attempt with the same content finds it.

        A run that was cleared and ended otherwise gets another version under the same key.
        """
        key, body = run_manifest_key(day, run_id), json_bytes(document)
        condition = {"IfNoneMatch": "*"}
        while (written := self._put(key, body, document, condition)) is None:
            kept = get_object(self._s3, self._bucket, key)
            if kept is not None and kept[0] == body:
                return SavedManifest(key, kept[1].get("VersionId"), sha256(body), kept[1]["LastModified"])
            condition = {"IfMatch": kept[1]["ETag"]} if kept else {"IfNoneMatch": "*"}
        return SavedManifest(key, written.get("VersionId"), sha256(body))

    def merge_day(self, day: date, document: Document, saved: SavedManifest) -> Document:
        """Merge a run into the day's manifest, and return that; runs that end at once lose nothing.

        A day has one run as a rule, so its manifest is written before it is looked for.
        """
        key = manifest_key(day)
        kept: tuple[bytes, Mapping[str, Any]] | None = None
        while True:
            before = json.loads(kept[0]) if kept else None
            after = merged(before, document, saved, earlier=self._earlier(before, document["run_id"]))
            condition = {"IfMatch": kept[1]["ETag"]} if kept else {"IfNoneMatch": "*"}
            if after == before or self._put(key, json_bytes(after), after, condition) is not None:
                return after
            kept = get_object(self._s3, self._bucket, key)

    def _earlier(self, day: Document | None, run_id: str) -> Document | None:
        """The manifest that a run had before a part of it was cleared, if it was merged into the day."""
        for each in reversed(day.get("runs", ()) if day else ()):
            if each["run_id"] == run_id and each.get("version_id"):
                found = get_object(self._s3, self._bucket, each["manifest"], VersionId=each["version_id"])
                return json.loads(found[0]) if found else None
        return None

    def _put(self, key: str, body: bytes, document: Document, condition: dict[str, str]) -> Mapping[str, Any] | None:
        """Write, or None if somebody else did; the counts go into the metadata, so that a calendar needs no body."""
        noted = {"trigger_date": document["trigger_date"]} | {name: str(document[name]) for name in _COUNTS}
        more = {"Metadata": noted, **condition, **self._lock}
        # Also while another write is under way: what comes of it is read next.
        lost = CONDITION_FAILED | {"ConditionalRequestConflict"}
        return put_object(self._s3, self._bucket, key, body, none_for=lost, **more)


def record_run(
    s3: S3Client,
    bucket: str,
    document: Document,
    *,
    lock: dict[str, Any] | None = None,
    newest: Callable[[], Newest] | None = None,
) -> Entry:
    """Write what proves a run: its manifest, its entry in the ledger, and the day's manifest.

    Done again, it finds what is there. Beside the manifest it takes the time of one request: the day's manifest is
    written at the same time as the entry.

    ``newest`` waits for the newest entry, if that is being read already.
    """
    day, run_id = date.fromisoformat(document["trigger_date"]), document["run_id"]
    manifests, ledger = Manifests(s3, bucket, lock), Ledger(s3, bucket, lock)
    with ThreadPoolExecutor(1) as threads:
        # Before the manifest is saved: then no entry that is there already can be of it.
        last = (newest or ledger.newest)()
        saved = manifests.save_run(day, run_id, document)
        merging = threads.submit(manifests.merge_day, day, document, saved)
        entry = ledger.append(run_id, document["trigger_date"], saved, last)
        merging.result()
    return entry
