from benchmarks.report import merged
from benchmarks.results import Comparison, Part

NAMES = ["parsing", "auction", "archive"]


def part(name: str, *met: bool | None, at: str = "2026-03-08 12:00 UTC") -> Part:
    rows = [Comparison(f"row {number}", "1 s", "2 s", "0.5 times", "aim", one) for number, one in enumerate(met)]
    return Part(name, f"What {name} measures.", rows, {}, [f"A note of {name}."], at, 1.5, 2.5)


def test_first_part_that_is_measured_says_which_are_not() -> None:
    report = merged("", part("auction", True, False, None), NAMES)
    overview, section = report.split("## auction")
    assert overview.splitlines() == [
        "| part | measured | load average | aims met |",
        "| --- | --- | --- | --- |",
        "| parsing | **not measured** | - | - |",
        "| auction | 2026-03-08 12:00 UTC | 1.5 | 1 of 2 |",
        "| archive | **not measured** | - | - |",
        "",
    ]
    assert "What auction measures." in section
    assert "A note of auction." in section


def test_other_parts_keep_what_they_said_and_when_they_were_measured() -> None:
    report = merged("", part("archive", True, at="2026-03-01 12:00 UTC"), NAMES)
    archive = report[report.index("## archive") :]
    report = merged(
        f"# Benchmark results\n\nwords\n\n{report}", part("parsing", None, at="2026-03-02 12:00 UTC"), NAMES
    )
    assert report.endswith(archive)
    assert "| archive | 2026-03-01 12:00 UTC | 1.5 | 1 of 1 |" in report
    assert "| parsing | 2026-03-02 12:00 UTC | 1.5 | - |" in report
    assert report.index("## parsing") < report.index("## archive")
    assert "words" not in report


def test_part_that_is_measured_again_has_one_section() -> None:
    report = merged("", part("auction", False), NAMES)
    again = merged(report, part("auction", True, at="2026-04-01 12:00 UTC"), NAMES)
    assert again == merged("", part("auction", True, at="2026-04-01 12:00 UTC"), NAMES)


def test_part_that_is_no_more_goes() -> None:
    report = merged(merged("", part("forgotten"), ["forgotten"]), part("auction"), NAMES)
    assert "forgotten" not in report
