import pytest

from include.call_details.watcher import PATIENCE_SECONDS, REPORT_AGAIN_SECONDS, LeftFile, LeftFiles
from tests.worlds.call_details_run import Surroundings

ONE, OTHER = LeftFile("incoming/a.txt", "e1", "refused"), LeftFile("incoming/a.txt", "e2", "refused")


class Book(Surroundings):
    """What is known of left files, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.files = LeftFiles(self.items, "ingest", clock=self.time)

    def tell(self, *left: LeftFile) -> list[LeftFile]:
        """A round that leaves these, and tells people of those that are due."""
        due = self.files.unreported(left)
        self.files.note_reported(due)
        return due


@pytest.fixture
def book() -> Book:
    return Book()


def test_file_is_reported_after_a_while_once_a_day(book: Book) -> None:
    assert book.tell(ONE) == []
    book.time.now += PATIENCE_SECONDS - 1
    assert book.tell(ONE) == []
    book.time.now += 1
    assert book.tell(ONE) == [ONE]
    for _ in range(10):
        book.time.now += REPORT_AGAIN_SECONDS / 11
        assert book.tell(ONE) == []
    book.time.now += REPORT_AGAIN_SECONDS / 11 + 1
    assert book.tell(ONE) == [ONE]


def test_alert_that_reached_nobody_is_due_still(book: Book) -> None:
    book.files.unreported([ONE])
    book.time.now += PATIENCE_SECONDS
    assert book.files.unreported([ONE]) == [ONE]
    assert book.files.unreported([ONE]) == [ONE]


def test_file_beside_the_prefix_is_reported_once(book: Book) -> None:
    beside = LeftFile("other/a.txt", "e1", "it is not under incoming/", beside=True)
    assert book.tell(beside) == []
    book.time.now += PATIENCE_SECONDS
    assert book.tell(beside) == [beside]
    for _ in range(5):
        book.time.now += REPORT_AGAIN_SECONDS
        assert book.tell(beside) == []


def test_versions_of_a_key_are_distinguished(book: Book) -> None:
    book.tell(ONE)
    book.time.now += PATIENCE_SECONDS
    assert book.tell(ONE, OTHER) == [ONE]
    book.time.now += PATIENCE_SECONDS
    assert book.tell(ONE, OTHER) == [OTHER]


def test_file_that_was_taken_is_forgotten_after_a_day(book: Book) -> None:
    book.tell(ONE)
    book.time.now += PATIENCE_SECONDS
    book.tell(ONE)
    assert book.tell() == []
    book.time.now += 1
    assert book.tell(ONE) == [], "left again at once: people know"
    book.time.now += REPORT_AGAIN_SECONDS
    book.tell()
    assert book.table.items == {}
