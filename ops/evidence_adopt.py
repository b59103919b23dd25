"""Answers that no run accounted for, taken into the ledger as they are (spec: archive, Proof)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from include.archive.keys import EVIDENCE, MANIFESTS
from include.archive.ledger import Ledger, SavedManifest, sha256
from include.archive.store import lock_until
from include.clients.s3 import json_bytes
from ops.environment import Environment, aws_errors
from ops.evidence import CONNECTIONS, Unknown, Verification, client_and_day, in_order
from ops.report import OpsError, Report

_ADOPTED = "adopted"


def adopt(
    environment: Environment,
    *,
    added: Collection[str] = (),
    agree: Callable[[str], None],
    tell: Callable[[str], None],
) -> Report:
    """Write one entry for the answers that were archived before the ledger began, as they are now.

    And for those of the keys ``added`` that no entry knows, once somebody knows where they come from. All of it is
    locked as what a run writes is.
    """
    bucket = environment.output("ArchiveBucketName")
    mode, days = environment.parameter("ArchiveLockMode", "NONE"), int(environment.parameter("ArchiveLockDays", "0"))
    lock = lock_until(mode, days, datetime.now(UTC))
    s3 = environment.aws("s3", connections=CONNECTIONS)
    with aws_errors("S3"):
        verification = Verification(s3, bucket, tell=tell)
        verification.run()
        old = [each for each in verification.unknown if each.old or each.key in added]
        if unknown := sorted(set(added) - {each.key for each in old}):
            raise OpsError(f"'ops evidence verify' reports nothing as added at {', '.join(unknown)}")
        if not old:
            raise OpsError("no answer of before the ledger lacks an entry")
        locked = f", and lock them for {days:,} days ({mode})" if lock else ""
        agree(f"Take {len(old):,} answers of s3://{bucket} into the ledger as they are now{locked}?")
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            lines = [line for _, line in in_order(threads, old, lambda each: _adopted(verification, each, lock))]
        body = json_bytes({"trigger_date": None, "run_id": _ADOPTED, "errors": [], "clients": lines})
        key = f"{MANIFESTS}{_ADOPTED}/{sha256(body)}.json"
        ledger = Ledger(s3, bucket, lock)
        newest = ledger.newest()
        written = s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", **lock)
        saved = SavedManifest(key, written.get("VersionId"), sha256(body))
        entry = ledger.append(_ADOPTED, None, saved, newest)
    return Report(
        f"entry {entry.number} of the ledger",
        {"key": "manifest", "answers": "answers"},
        [{"key": key, "answers": len(old)}],
    )


def _adopted(verification: Verification, answer: Unknown, lock: dict[str, Any]) -> dict[str, Any]:
    found = client_and_day(answer.key)
    if found is None:
        raise OpsError(f"{answer.key} is not the key of an answer: move it away from {EVIDENCE}, then try again")
    client, day = found
    place = {"Bucket": verification.bucket, "Key": answer.key, "VersionId": answer.version}
    head = verification.s3.head_object(**place)
    digest, until = verification.digest(answer.key, answer.version)
    if digest is None:
        raise OpsError(f"{answer.key} ({answer.version}) is gone by now: verify again")
    # A lock that is there may last longer, or may not be made shorter.
    if lock and (until is None or until <= datetime.now(UTC)):
        retention = {name.removeprefix("ObjectLock"): value for name, value in lock.items()}
        verification.s3.put_object_retention(**place, Retention=retention)
    return {
        "client_id": client,
        "trigger_date": day,
        "key": answer.key,
        "sha256": digest,
        "bytes": head["ContentLength"],
        "version_id": answer.version,
        "outcome": "archived",
        "run_id": _ADOPTED,
    }
