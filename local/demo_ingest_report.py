"""What the ingest's part of the demo shows, and what it holds the ingest to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from include.ingest.identity import idempotency_key, run_id
from include.ingest.keys import INCOMING, PROCESSED
from local.demo_ingest_files import REFUSED, REFUSED_BATCH, REFUSED_TEXT, Batches, Dropped
from local.demo_ingest_found import Document, Found, Replayed
from local.demo_report import Exhibit, Report

MOST_CALLS = 50
"""How many calls of the API there may be at once."""

_SHOWN_OF_A_BODY = 300


def report_on(
    dropped: list[Dropped],
    found: Found,
    replayed: Replayed,
    *,
    seconds: float,
    most_calls: int,
    active: list[str],
) -> Report:
    """The part's report, checks included.

    Args:
        dropped: the files.
        found: before the replay.
        replayed: after it.
        seconds: that all of it took.
        most_calls: most calls that the API saw at once.
        active: runs that have not ended.
    """
    receipts = _receipts_of(dropped, found)
    records = sum(len(each.records) for each in dropped)
    accepted = sum(int(receipt.get("records_accepted", 0)) for receipt in receipts)
    report = Report(
        "call details",
        ", ".join([*found.runs, replayed.run_id]),
        ", ".join(sorted({*found.runs.values(), replayed.state})),
        seconds,
        f"{len(dropped)} files, {records:,} records: {accepted:,} accepted, then "
        f"{replayed.summary['accepted']} refused batch replayed",
        [f"s3://{dropped[0].file.bucket}/{key}" for key in found.keys if not key.startswith("plans/")],
        list(_exhibits(receipts, found, replayed)),
        "The watcher saw the files, claimed each version, and started a run for each. One file has broken lines: they "
        f"are records all the same, wrapped as text. The API refused one batch of {REFUSED.name} on purpose: it went "
        "to the dead letters, people got one alert, all other batches went on. Then the API took it again, and a "
        "replay emptied the queue, under the idempotency key that the batch had before.",
    )
    _check_ingest(report, dropped, receipts, found)
    _check_dead_letter(report, dropped, found)
    _check_replay(report, dropped, replayed)
    report.check(
        f"the API had at most {most_calls} calls at once, of the {MOST_CALLS} that are allowed",
        0 < most_calls <= MOST_CALLS,
    )
    report.check("no run is left waiting now that the DAGs are paused again", not active)
    return report


def _check_ingest(report: Report, dropped: list[Dropped], receipts: list[Document], found: Found) -> None:
    report.check(
        f"each of the {len(dropped)} files got one run of its own, and all succeeded",
        found.runs == {run_id(each.file): "success" for each in dropped},
    )
    report.check(
        "each file's receipt adds up: records read = accepted + dead-lettered, as many as the file has lines",
        all(_adds_up(receipt, each) for receipt, each in zip(receipts, dropped, strict=True)),
    )
    report.check(
        "each file was moved to processed/, and nothing is left under incoming/ and processing/",
        all(str(receipt.get("stored_as")).startswith(PROCESSED) for receipt in receipts)
        and {receipt.get("stored_as") for receipt in receipts} <= set(found.keys)
        and not any(key.startswith((INCOMING, "processing/")) for key in found.keys),
    )


def _adds_up(receipt: Document, file: Dropped) -> bool:
    wanted = {
        "records_read": len(file.records),
        "batches_read": len(file.batches),
        "batches_dead_lettered": int(file.sample == REFUSED),
        "invalid_bytes": file.invalid_bytes,
    }
    return wanted.items() <= receipt.items() and all(
        receipt[f"{what}_accepted"] + receipt[f"{what}_dead_lettered"] == receipt[f"{what}_read"]
        for what in ("records", "batches")
    )


def _check_dead_letter(report: Report, dropped: list[Dropped], found: Found) -> None:
    refused = _refused_key(dropped)
    report.check(
        f"only batch {REFUSED_BATCH} of {REFUSED.name} was refused, the other {len(_batches(dropped)) - 1} were taken",
        found.taken == {key: batch for key, batch in _batches(dropped).items() if key != refused},
    )
    report.check(
        "the queue's one message names it and holds no record; the body in S3 is the one whose SHA-256 it names",
        [letter["idempotency_key"] for letter in found.letters] == [refused]
        and REFUSED_TEXT not in str(found.letters[0])
        and REFUSED_TEXT.encode() in found.bodies[0]
        and hashlib.sha256(found.bodies[0]).hexdigest() == found.letters[0]["body"]["sha256"],
    )


def _check_replay(report: Report, dropped: list[Dropped], replayed: Replayed) -> None:
    for channel, messages in (("SNS", replayed.sns), ("Slack", replayed.slack)):
        report.check(
            f"exactly one alert came through {channel}, and it names the file",
            len(messages) == 1 and REFUSED.name in messages[0],
        )
    report.check(
        "the replay delivered the batch and left the queue empty",
        (replayed.state, replayed.summary["accepted"], replayed.waiting) == ("success", 1, 0),
    )
    report.check(
        "in the end the API has every record exactly once, to the letter: the SHA-256 of every batch fits the files",
        replayed.taken == _batches(dropped),
    )


def _exhibits(receipts: list[Document], found: Found, replayed: Replayed) -> Iterator[Exhibit]:
    yield Exhibit("what the receipts in S3 say", "\n".join(_lines(receipts)))
    for letter, body in zip(found.letters, found.bodies, strict=True):
        yield Exhibit("a dead letter's message in the queue", json.dumps(letter, indent=2, ensure_ascii=False))
        yield Exhibit("how its body in S3 begins", f"{body[:_SHOWN_OF_A_BODY].decode(errors='replace')}...")
    yield from (Exhibit("the alert, as SNS delivered it", text) for text in replayed.sns)
    yield Exhibit("what the replay left in XCom", json.dumps(replayed.summary))


def _lines(receipts: list[Document]) -> Iterator[str]:
    row = "{:<24} {:>7} = {:>8} + {:<13}  {}"
    yield row.format("file", "records", "accepted", "dead-lettered", "batches")
    for receipt in filter(None, receipts):
        read, accepted, dead = (f"{receipt[f'records_{how}']:,}" for how in ("read", "accepted", "dead_lettered"))
        batches = "{batches_read} = {batches_accepted} + {batches_dead_lettered}".format_map(receipt)
        yield row.format(receipt["key"].removeprefix(INCOMING), read, accepted, dead, batches)


def _receipts_of(dropped: list[Dropped], found: Found) -> list[Document]:
    """The receipts in the order of the files, empty where there is none: the checks then say so."""
    by_file = {(each["key"], each["etag"]): each for each in found.receipts.values()}
    return [by_file.get((each.file.key, each.file.etag), {}) for each in dropped]


def _batches(dropped: list[Dropped]) -> Batches:
    return {key: batch for each in dropped for key, batch in each.batches.items()}


def _refused_key(dropped: list[Dropped]) -> str:
    (file,) = [each.file for each in dropped if each.sample == REFUSED]
    return idempotency_key(file, REFUSED_BATCH)
