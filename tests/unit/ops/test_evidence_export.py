import shutil
import subprocess
import zipfile
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from include.archive.ledger import Entry, sha256
from ops.evidence_adopt import adopt
from ops.evidence_export import check, export
from ops.report import OpsError
from tests.worlds.evidence import FIRST, Bucket, archive, three_days
from tests.worlds.s3 import VersionedBucket, WithoutVersions

LAST = FIRST + timedelta(days=2)
NAMED = "2_trigger_20260302"


@pytest.fixture
def environment(s3: VersionedBucket) -> Bucket:
    archive(s3, "again", FIRST + timedelta(days=1), {2: b'{"client": 2, "later": true}'})
    return Bucket("test", s3, None, {}, httpx.Client())


def exported(environment: Bucket, target: Path) -> dict[str, bytes]:
    export(environment, 2, FIRST, LAST, target)
    with zipfile.ZipFile(target) as found:
        return {name: found.read(name) for name in found.namelist()}


def test_zip_holds_every_version_and_the_chain_to_the_newest_entry(environment: Bucket, tmp_path: Path) -> None:
    files = exported(environment, tmp_path / "a.zip")
    answers = {name: files[name] for name in files if name.startswith(f"answers/{NAMED}")}
    assert sorted(answers.values()) == [b'{"client": 2, "later": true}', b'{"client": 2}']
    assert len([name for name in files if name.startswith("ledger/")]) == 4
    assert not any("1_trigger" in name for name in files), "of other clients it holds no answer"
    assert not check(tmp_path / "a.zip").failed


def test_version_that_no_run_accounted_for_is_in_the_zip_and_named_as_unproven(
    environment: Bucket, tmp_path: Path
) -> None:
    key = "trigger/2/2_trigger_20260302.json"
    late = environment.session.put_object(Bucket=environment.session.bucket, Key=key, Body=b'{"late": true}')
    files = exported(environment, tmp_path / "a.zip")
    name = f"answers/{NAMED}.{late['VersionId']}.json"
    assert files[name] == b'{"late": true}'
    assert check(tmp_path / "a.zip").rows == [{"file": name, "fault": "no manifest of the ledger has this answer"}]


def test_zip_of_the_same_evidence_has_the_same_bytes(environment: Bucket, tmp_path: Path) -> None:
    exported(environment, tmp_path / "a.zip")
    exported(environment, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_sha256sum_alone_checks_it(environment: Bucket, tmp_path: Path) -> None:
    exported(environment, tmp_path / "a.zip")
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "unpacked")
    command = ["sha256sum", "--check", "--strict", "--quiet", "sha256sums"]
    subprocess.run(command, cwd=tmp_path / "unpacked", check=True)


@pytest.mark.parametrize("ids", ["yfN.BNhzgp..E1gRX_{}", "3/L4kqtJlcpX+r{}"])
def test_version_ids_as_aws_makes_them_are_proven(tmp_path: Path, ids: str) -> None:
    s3 = VersionedBucket()
    s3.ids = ids
    three_days(s3)
    files = exported(Bucket("test", s3, None, {}, httpx.Client()), tmp_path / "a.zip")
    assert len([name for name in files if name.startswith("answers/")]) == 3
    assert all(name.count("/") < 2 for name in files), "the commands of its page name the files of a folder"
    assert check(tmp_path / "a.zip").rows == []


def test_bucket_without_versions_is_exported_without_them(tmp_path: Path) -> None:
    s3 = WithoutVersions()
    three_days(s3)
    files = exported(Bucket("test", s3, None, {}, httpx.Client()), tmp_path / "a.zip")
    assert [name for name in files if name.startswith("answers/")] == [
        f"answers/2_trigger_2026030{day}.None.json" for day in (1, 2, 3)
    ]
    assert check(tmp_path / "a.zip").rows == []


def test_zip_that_was_packed_again_is_proven(environment: Bucket, tmp_path: Path) -> None:
    exported(environment, tmp_path / "a.zip")
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "unpacked")
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "unpacked")
    assert check(tmp_path / "b.zip").rows == []


@pytest.mark.parametrize("part", ["answers/", "metadata/", "manifests/", "ledger/"])
def test_any_file_that_was_changed_is_named(environment: Bucket, tmp_path: Path, part: str) -> None:
    files = exported(environment, tmp_path / "a.zip")
    name = next(name for name in files if name.startswith(part))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as changed:
        for each, body in files.items():
            changed.writestr(each, body.replace(b"2", b"3") if each == name else body)
    report = check(tmp_path / "b.zip")
    assert report.failed
    assert name in {row["file"] for row in report.rows}


def test_change_with_new_sums_is_still_found_by_the_chain(environment: Bucket, tmp_path: Path) -> None:
    key = "trigger/2/2_trigger_20260302.json"
    versions = environment.session.objects[key]
    versions[0] = replace(versions[0], body=b'{"client": 2, "forged": true}')
    exported(environment, tmp_path / "a.zip")
    report = check(tmp_path / "a.zip")
    assert [row["file"] for row in report.rows] == [f"answers/{NAMED}.{versions[0].id}.json"]


@pytest.mark.parametrize("body", [b"forged", b"[" * 100_000], ids=lambda body: body[:30])
@pytest.mark.parametrize("key", ["ledger/trigger/00000002.json", "manifests/trigger/"])
def test_archive_that_was_tampered_with_is_not_exported_and_verifying_is_named(
    environment: Bucket, tmp_path: Path, key: str, body: bytes
) -> None:
    for each, versions in environment.session.objects.items():
        if each.startswith(key):
            environment.session.objects[each] = [replace(version, body=body) for version in versions]
    with pytest.raises(OpsError, match="ops evidence verify"):
        export(environment, 2, FIRST, LAST, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "key", ["ledger/trigger/00000002.json", "manifests/trigger/20260301/", f"trigger/2/{NAMED}.json"]
)
def test_archive_that_lacks_what_the_ledger_names_is_not_exported_and_what_is_gone_is_named(
    environment: Bucket, tmp_path: Path, key: str
) -> None:
    (gone, *_) = environment.session.keys(key)
    environment.session.objects[gone] = []
    with pytest.raises(OpsError, match=rf"{gone}.* is gone: 'ops evidence verify' names"):
        export(environment, 2, FIRST, LAST, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"clients": [1]}'])
def test_manifest_that_is_none_is_a_fault_though_the_ledger_has_its_digest(
    environment: Bucket, tmp_path: Path, body: bytes
) -> None:
    files = exported(environment, tmp_path / "a.zip")
    newest = max(name for name in files if name.startswith("ledger/"))
    files["manifests/00000004.json"] = body
    files[newest] = replace(Entry.from_bytes(files[newest]), sha256=sha256(body)).to_bytes()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as forged:
        for each, content in files.items():
            forged.writestr(each, content)
    faults = [row["fault"] for row in check(tmp_path / "b.zip").rows if row["file"] == "manifests/00000004.json"]
    assert faults == ["not what sha256sums says", "not a manifest as runs write them"]


def repacked(files: dict[str, bytes], target: Path, *left_out: str) -> list[tuple[str, str]]:
    """Faults of a zip from which somebody took files, with sums of what is left."""
    kept = {name: body for name, body in files.items() if name not in (*left_out, "sha256sums")}
    sums = "".join(f"{sha256(body)}  {name}\n" for name, body in kept.items())
    with zipfile.ZipFile(target, "w") as archive:
        for name, body in {**kept, "sha256sums": sums.encode()}.items():
            archive.writestr(name, body)
    return [(row["file"], row["fault"]) for row in check(target).rows]


def test_answer_that_is_left_out_is_named(environment: Bucket, tmp_path: Path) -> None:
    files = exported(environment, tmp_path / "a.zip")
    answers = [name for name in files if name.startswith("answers/")]
    assert len(answers) == 4
    for name in answers:
        faults = [(name, "left out: a manifest of the ledger has this answer")]
        assert repacked(files, tmp_path / "b.zip", name) == faults
    assert repacked(files, tmp_path / "b.zip", *answers) == [("answers/", "nothing is there")]
    ledger = [name for name in files if name.startswith("ledger/")]
    assert ("ledger/", "nothing is there") in repacked(files, tmp_path / "b.zip", *ledger)


def test_file_that_the_sums_name_and_that_is_gone_is_one_fault(environment: Bucket, tmp_path: Path) -> None:
    files = exported(environment, tmp_path / "a.zip")
    name = next(name for name in files if name.startswith("answers/"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive_of_less:
        for each in files.keys() - {name}:
            archive_of_less.writestr(each, files[each])
    assert check(tmp_path / "b.zip").rows == [{"file": name, "fault": "missing"}]


def test_adopted_answers_of_other_days_and_clients_are_not_missed(environment: Bucket, tmp_path: Path) -> None:
    s3 = environment.session
    old = [f"trigger/{client}/{client}_trigger_2025010{day}.json" for client in (2, 7) for day in (1, 2)]
    for key in old:
        s3.put_object(Bucket=s3.bucket, Key=key, Body=b"[1]")
    late = s3.put_object(Bucket=s3.bucket, Key=old[0], Body=b"[2]")["VersionId"]
    adopt(environment, added=old, agree=lambda text: None, tell=lambda text: None)
    day = date(2025, 1, 1)
    export(environment, 2, day, day, tmp_path / "a.zip")
    assert check(tmp_path / "a.zip").rows == []
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        files = {name: found.read(name) for name in found.namelist()}
    name = f"answers/2_trigger_20250101.{late}.json"
    assert repacked(files, tmp_path / "b.zip", name) == [(name, "left out: a manifest of the ledger has this answer")]


def test_bucket_may_be_named_by_who_may_read_nothing_else(environment: Bucket, tmp_path: Path) -> None:
    class Reader(Bucket):
        def output(self, name: str) -> str:
            raise AssertionError("it asks for the stack")

    reader = Reader("test", environment.session, None, {}, httpx.Client())
    export(reader, 2, FIRST, LAST, tmp_path / "a.zip", bucket=environment.session.bucket)
    assert check(tmp_path / "a.zip").rows == []


def test_client_without_answers_is_refused_and_no_zip_is_written(environment: Bucket, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="client 9 has no answer"):
        export(environment, 9, FIRST, LAST, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_zip_that_cannot_be_written_is_said(environment: Bucket, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="cannot be written: No such file or directory"):
        export(environment, 2, FIRST, LAST, tmp_path / "nowhere" / "a.zip")


def test_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(OpsError, match="cannot be read"):
        check(tmp_path / "a.zip")
