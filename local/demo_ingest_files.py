"""The files that the ingest's part of the demo drops, and the batches that are to come of them.

The batches are worked out here from the contract, line by line and in memory, and not by the pipeline's own code: what
the API took is compared with them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import batched
from pathlib import Path
from typing import Any

from include.ingest.claim import FileVersion
from include.ingest.identity import file_version, idempotency_key
from include.ingest.keys import INCOMING
from local.sample.call_details import write_call_details

RECORDS_PER_BATCH = 500

Batches = dict[str, dict[str, Any]]
"""By idempotency key: ``records``, ``sha256`` and ``times``, as the stub of the API shows what it took."""


@dataclass(frozen=True)
class Sample:
    """A file of the demo.

    Args:
        name: what it is called under ``incoming/``; a ``.gz`` at the end compresses it.
        records: how many it holds.
        form: ``json`` or ``text``.
        broken_share: share of its lines that are broken.
    """

    name: str
    records: int
    form: str = "json"
    broken_share: float = 0.0


SAMPLES = (
    Sample("2026-03-08 Łódź+.jsonl", 20_000),
    Sample("broken.txt.gz", 5_000, form="text", broken_share=0.01),
    Sample("refused.jsonl", 25_000),
)
REFUSED = SAMPLES[2]
REFUSED_RECORD = 22_222
"""Of :data:`REFUSED` only, which is the longest: it is not in the others, though they begin alike."""
REFUSED_TEXT = f'{{"id":{REFUSED_RECORD},'
REFUSED_BATCH = (REFUSED_RECORD - 1) // RECORDS_PER_BATCH


@dataclass(frozen=True)
class Dropped:
    """A file that lies under ``incoming/``.

    Args:
        sample: what it was made from.
        file: its version.
        records: each as the JSON text that the API is to get.
        invalid_bytes: bytes of its text that are not UTF-8.
    """

    sample: Sample
    file: FileVersion
    records: tuple[str, ...]
    invalid_bytes: int

    @cached_property
    def batches(self) -> Batches:
        """What the API is to take, each batch once."""
        return {
            idempotency_key(self.file, number): {
                "records": len(records),
                "sha256": hashlib.sha256(",".join(records).encode()).hexdigest(),
                "times": 1,
            }
            for number, records in enumerate(batched(self.records, RECORDS_PER_BATCH))
        }


def drop_samples(s3: Any, bucket: str) -> list[Dropped]:
    """Put all samples under ``incoming/`` of the bucket. ``s3`` is a boto3 client."""
    with tempfile.TemporaryDirectory() as directory:
        return [_drop(s3, bucket, sample, Path(directory) / sample.name) for sample in SAMPLES]


def records_of(text: bytes) -> tuple[str, ...]:
    """The records of a file's text, each as JSON: its non-blank lines, wrapped if they are not JSON."""
    lines = [line.strip() for line in text.decode(errors="replace").split("\n")]
    return tuple(_record(line, number) for number, line in enumerate(filter(None, lines), start=1))


def _drop(s3: Any, bucket: str, sample: Sample, path: Path) -> Dropped:
    write_call_details(path, records=sample.records, form=sample.form, broken_share=sample.broken_share)
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    key = f"{INCOMING}{sample.name}"
    etag = s3.put_object(Bucket=bucket, Key=key, Body=content)["ETag"]
    # No sequence that the generator writes has more than one such byte.
    invalid = text.decode(errors="replace").count("\ufffd")
    return Dropped(sample, file_version(bucket, key, etag), records_of(text), invalid)


def _record(line: str, number: int) -> str:
    try:
        json.loads(line, parse_constant=_refuse)
    except ValueError:
        return json.dumps({"data": line, "lineNumber": number}, ensure_ascii=False, separators=(",", ":"))
    return line


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
