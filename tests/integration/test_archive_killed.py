"""Writers that die, and storage that stands still, while answers are on their way into the archive."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from include.archive.keys import archive_key
from local.processes.layout import PROJECT_ROOT
from tests.integration.archiving import AT_ONCE, CLIENTS, DAY, answer_of
from tests.integration.conftest import Aws, running_emulator
from tests.worlds.live.processes import standing_still


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Aws, psutil.Process]]:
    """An emulator of this module's own, which may stand still."""
    with running_emulator(tmp_path_factory.mktemp("emulator")) as (endpoint, process):
        yield Aws(endpoint, "400000000000", Path()), psutil.Process(process.pid)


def archiving(account: Aws, bucket: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integration.archiving", account.endpoint, account.account, bucket]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed", [False, True], ids=["the writer waits", "the writer dies"])
def test_answers_under_way_while_storage_stands_still_are_kept_once(
    own: tuple[Aws, psutil.Process], killed: bool
) -> None:
    """Storage takes in what lies before it when it goes on, also the writes of a process that is dead by then."""
    account, emulator = own
    bucket = f"killed-{uuid.uuid4().hex}"
    account.s3.create_bucket(Bucket=bucket)
    account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    told: Counter[str] = Counter()
    with archiving(account, bucket) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            told[line.strip()] += 1
            if told["kept"] == AT_ONCE:
                break
        with standing_still(emulator):
            # Until all that are worked on at once have been answered, and wait for storage; one may save outcomes.
            for line in writer.stdout:
                told[line.strip()] += 1
                if told["asked"] - told["kept"] >= AT_ONCE - 1:
                    break
            if killed:
                writer.kill()
        writer.stdout.read()
    assert told["kept"] < len(CLIENTS) - AT_ONCE, "it was in the middle"
    if killed:
        with archiving(account, bucket) as again:
            assert again.stdout is not None
            again.stdout.read()
        assert again.returncode == 0
    else:
        assert writer.returncode == 0
    versions = account.s3.list_object_versions(Bucket=bucket, Prefix="trigger/")["Versions"]
    assert Counter(version["Key"] for version in versions) == {archive_key(client, DAY): 1 for client in CLIENTS}
    for client in CLIENTS:
        assert account.s3.get_object(Bucket=bucket, Key=archive_key(client, DAY))["Body"].read() == answer_of(client)
