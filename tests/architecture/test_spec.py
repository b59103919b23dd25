"""Every "(spec: page, Heading)" of a docstring opens: docs/spec has that page, and the page that heading."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "spec"
FOLDERS = ("dags", "plugins", "include", "lambdas", "ops", "infra", "local", "tests", "benchmarks")
REFERENCE = re.compile(r"\(spec:\s*(?P<page>\w+)(?:,\s*(?P<headings>[^);]+))?[;)]")


def headings(page: str) -> set[str]:
    return set(re.findall(r"^##+ (.+)$", (SPEC / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE))


def references(text: str) -> list[tuple[str, str]]:
    """Pages and headings that a source refers to; the heading is empty where the whole page is meant."""
    return [(found["page"], " ".join((found["headings"] or "").split())) for found in REFERENCE.finditer(text)]


def fault(page: str, heading: str) -> str | None:
    if not (SPEC / f"{page}.md").is_file():
        return f"docs/spec has no page {page}.md"
    known = headings(page)
    # "Store and Re-run" names two headings.
    missing = [each for each in heading.split(" and ") if each and each not in known and heading not in known]
    return f"docs/spec/{page}.md has no heading {', '.join(missing)}" if missing else None


SOURCES = sorted({path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} - {Path(__file__).resolve()})


def test_every_reference_of_a_source_opens() -> None:
    found = {path: references(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {page for each in found.values() for page, _ in each} >= {"archive", "auction", "call_details", "events"}
    wrong = [
        f"{path.relative_to(ROOT)}: {why}"
        for path, each in found.items()
        for page, heading in each
        if (why := fault(page, heading))
    ]
    assert wrong == []


def test_every_mark_of_a_reference_can_be_read() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert len(references(text)) == len(re.findall(r"\(spec:\s*\w", text)), path


def test_a_page_or_heading_that_is_not_there_is_named() -> None:
    assert references("(spec: archive,\n    Store and Re-run); (spec: events; so.)") == [
        ("archive", "Store and Re-run"),
        ("events", ""),
    ]
    assert fault("archive", "Store and Re-run") is None
    assert fault("call_details", "At most 50 calls at once") is None
    assert fault("events", "") is None
    assert fault("archive", "Store and Rerun") == "docs/spec/archive.md has no heading Rerun"
    assert fault("ingest", "Records") == "docs/spec has no page ingest.md"


@pytest.mark.parametrize("page", sorted(path.stem for path in SPEC.glob("*.md") if path.stem != "README"))
def test_the_contents_name_every_page(page: str) -> None:
    assert f"[{page}]({page}.md)" in (SPEC / "README.md").read_text(encoding="utf-8")
