import re
import sys
from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.call_details.keys import (
    OWN_PREFIXES,
    Incoming,
    dead_letter_key,
    failed_key,
    file_version,
    idempotency_key,
    is_file,
    is_shared_run,
    origin,
    past_own,
    plan_key,
    processed_day,
    processed_key,
    processing_key,
    receipt_key,
    run_id,
    shared_run_id,
)
from include.call_details.models import FileVersion
from include.errors import InvalidInputError

DEFAULT = Incoming("incoming/", ("*.filepart", "*.tmp", "*.part", "*.partial", ".*"))
DAY = date(2026, 3, 8)
FILE = FileVersion("bucket", "incoming/a b/ä+c.txt", "e1")
# As many bytes as S3 allows for the key that a file is dropped under.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=1015).filter(
    lambda name: len(name.encode()) <= 1015 and not name.endswith("/")
)
FILES = st.builds(
    FileVersion,
    st.sampled_from(["one", "two"]),
    st.builds(str.__add__, st.sampled_from(["incoming/", "incoming/~/", "~/", "drops/", ""]), NAMES)
    .filter(is_file)
    .filter(lambda key: len(key.encode()) <= 1024),
    st.from_regex(r"[0-9a-f]{32}(-[0-9]{1,5})?", fullmatch=True),
)
ALIKE = st.builds(
    FileVersion,
    st.sampled_from(["", "a", "ab"]),
    st.sampled_from(["incoming/a", "incoming/b", "incoming/a.b", 'incoming/a", "b', "incoming/ä", "incoming/ü"]),
    st.sampled_from(["", "a", "b.b"]),
)
AIRFLOW_S_RUN_IDS = re.compile(r"[A-Za-z0-9_.~:+-]+")


@given(st.sampled_from(OWN_PREFIXES), st.text(st.characters(exclude_categories=["Cs"])), st.text())
@example(OWN_PREFIXES[0], f"{chr(sys.maxunicode)}a", "")
def test_listing_goes_on_past_all_that_begins_like_an_own_key(own: str, name: str, other: str) -> None:
    after = past_own(f"{own}{name}")
    assert after is not None
    assert after >= f"{own}{name}", "or the same page would be listed for ever"
    assert after.startswith(own), "or a file behind it would be left out"
    assert past_own(f"x{other}") is None


def test_keys_are_those_of_the_contract() -> None:
    assert processing_key(FILE) == "processing/e1/a b/ä+c.txt"
    assert processed_key(FILE, DAY) == "processed/2026/03/08/e1/a b/ä+c.txt"
    assert processed_day(processed_key(FILE, DAY)) == DAY
    assert failed_key(FILE) == "failed/e1/a b/ä+c.txt"
    assert receipt_key(FILE) == "receipts/incoming/a b/ä+c.txt.e1.json"
    assert dead_letter_key(FILE, 12) == "dead-letter/incoming/a b/ä+c.txt/000012.json"
    assert plan_key(FILE, 1) == "plans/incoming/a b/ä+c.txt.e1/000001.json"


@given(FILES)
def test_every_key_fits_into_s3(file: FileVersion) -> None:
    for key in (
        processing_key(file),
        processed_key(file, DAY),
        failed_key(file),
        receipt_key(file),
        dead_letter_key(file, 12_345_678),
        plan_key(file, 1),
    ):
        assert len(key.encode()) <= 1024


@given(FILES, FILES)
def test_no_two_versions_share_a_key(one: FileVersion, other: FileVersion) -> None:
    for make in (processing_key, failed_key, receipt_key, lambda file: plan_key(file, 1)):
        assert (make(one) == make(other)) == ((one.key, one.etag) == (other.key, other.etag))


LONG = "incoming/" + "x" * 1000
ETAG = "0123456789abcdef" * 2


@pytest.mark.parametrize("make", [processing_key, failed_key, receipt_key, lambda file: dead_letter_key(file, 1)])
def test_keys_too_long_are_cut_and_still_distinguished(make: Callable[[FileVersion], str]) -> None:
    one, other = make(FileVersion("b", f"{LONG}y.txt", ETAG)), make(FileVersion("b", f"{LONG}z.txt", ETAG))
    assert one != other
    assert one[:900] == other[:900]
    assert re.search(r"~[0-9a-f]{32}", one)
    # No character is cut in two.
    assert "🌞" * 200 in make(FileVersion("b", f"incoming/{'🌞' * 253}", ETAG))


@given(FILES)
def test_a_moved_file_is_known_again(file: FileVersion) -> None:
    for moved in (processing_key(file), processed_key(file, DAY), failed_key(file)):
        assert origin(file.bucket, moved) == file or len(file.key.encode()) > 900


@pytest.mark.parametrize("name", ["x" * 1015, "🌞" * 253 + "xyz", "ä" * 507])
def test_a_key_that_was_cut_is_not_taken_for_another_file_s(name: str) -> None:
    file = FileVersion("bucket", f"incoming/{name}", ETAG)
    for moved in (processing_key(file), processed_key(file, DAY), failed_key(file)):
        assert origin("bucket", moved) is None


@pytest.mark.parametrize(
    "key",
    [
        "incoming/a.txt",
        "a.txt",
        "processing/a.txt",
        "processed/a/b.txt",
        "processed/2026/03/08/a.txt",
        "receipts/e/a.json",
    ],
)
def test_other_files_have_no_origin(key: str) -> None:
    assert origin("bucket", key) is None


def test_a_file_that_was_dropped_elsewhere_tells_its_whole_key() -> None:
    assert processing_key(FileVersion("bucket", "drops/a.txt", "e1")) == "processing/e1/~/drops/a.txt"
    assert origin("bucket", "failed/e1/~/drops/a.txt") == FileVersion("bucket", "drops/a.txt", "e1")


@pytest.mark.parametrize(
    ("key", "dropped"),
    [
        ("incoming/a", True),
        ("incoming/a/b.gz", True),
        ("incoming//", False),
        ("incoming/", False),
        ("incoming/folder/", False),
        ("other/a", False),
        ("INCOMING/a", False),
        ("incoming/late.txt.filepart", False),
        ("incoming/A.PART", False),
        ("incoming/x.partial", False),
        ("incoming/x.tmp", False),
        ("incoming/.hidden", False),
        ("incoming/.folder/x", True),
        ("incoming/part", True),
        ("incoming/a.tmp/b", True),
    ],
)
def test_only_whole_files_under_incoming_are_ingested(key: str, dropped: bool) -> None:
    assert DEFAULT.takes(key) is dropped
    assert DEFAULT.lies_beside(key) is (key in ("other/a", "INCOMING/a"))


@pytest.mark.parametrize("key", ["", "folder/", "processing/a", "processed/a", "failed/a", "receipts/a", "plans/a"])
def test_what_the_project_writes_itself_is_never_a_dropped_file(key: str) -> None:
    for incoming in (DEFAULT, Incoming("", DEFAULT.ignored)):
        assert not incoming.takes(key)
        assert not incoming.lies_beside(key)
    with pytest.raises(InvalidInputError, match="is not one under which a file can be dropped"):
        processing_key(FileVersion("bucket", key, "e"))


@pytest.mark.parametrize(("prefix", "taken"), [("", True), ("drops/", True), ("drops/a/", False), ("incoming/", False)])
def test_the_prefix_says_where_files_are_dropped(prefix: str, taken: bool) -> None:
    incoming = Incoming(prefix, ("*.lock", "#*"))
    assert incoming.takes("drops/x.tmp") is taken
    assert incoming.lies_beside("drops/x.tmp") is not taken
    assert not incoming.takes("drops/x.LOCK")
    assert not incoming.lies_beside("drops/#x")


@given(FILES)
def test_run_ids_are_taken_by_airflow(file: FileVersion) -> None:
    made = run_id(file)
    assert AIRFLOW_S_RUN_IDS.fullmatch(made)
    assert len(made) <= 200
    assert not made.startswith(("scheduled__", "manual__", "backfill__", "asset_triggered__"))


@given(ALIKE, ALIKE)
def test_each_version_has_a_run_id_of_its_own(one: FileVersion, other: FileVersion) -> None:
    assert (run_id(one) == run_id(other)) == (one == other)


def test_run_ids_can_be_read() -> None:
    assert re.fullmatch(r"file__a_b_c\.txt__[0-9a-f]{24}", run_id(FILE))
    assert run_id(FileVersion("b", f"{LONG}/berlin.csv", "e")).rpartition("__")[0].endswith("x_berlin.csv")


@given(ALIKE, st.integers(0, 3), ALIKE, st.integers(0, 3))
def test_batches_have_idempotency_keys_of_their_own(
    one: FileVersion, first: int, other: FileVersion, second: int
) -> None:
    made, compared = idempotency_key(one, first), idempotency_key(other, second)
    assert re.fullmatch(r"[0-9a-f]{64}", made)
    assert (made == compared) == ((one, first) == (other, second))


def test_parts_of_a_name_cannot_be_shifted_into_each_other() -> None:
    shifted = [
        FileVersion("a", "b", "c"),
        FileVersion("a", 'b", "c', ""),
        FileVersion("ab", "", "c"),
        FileVersion("", "ab", "c"),
    ]
    assert len({idempotency_key(file, batch) for file in shifted for batch in (1, 11)}) == 8


def test_idempotency_keys_never_change() -> None:
    """The API remembers them: what was posted yesterday must not be posted under another key today."""
    expected = "ea8d550fc7ae5f454e0a2d73347276340c8b51f502a7776034a5098b72b3257a"
    assert idempotency_key(FILE, 3) == expected


def test_an_etag_is_the_same_with_and_without_its_quotes() -> None:
    assert (
        file_version("bucket", "k", '"abc-2"')
        == file_version("bucket", "k", "abc-2")
        == FileVersion("bucket", "k", "abc-2")
    )


def test_id_of_a_shared_run_tells_how_many_and_the_first_and_depends_on_all() -> None:
    files = [FileVersion("bucket", f"incoming/a b/ä{number}.txt", "e1") for number in range(12)]
    name = shared_run_id(files)
    assert re.fullmatch(r"files__12_from_a_b_0\.txt__[0-9a-f]{24}", name)
    assert is_shared_run(name)
    assert not is_shared_run(run_id(files[0]))
    assert shared_run_id(files) == name
    for others in (files[::-1], files[:-1], [*files[:-1], FileVersion("bucket", files[-1].key, "e2")]):
        assert shared_run_id(others) != name
