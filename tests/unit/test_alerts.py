from hypothesis import given
from hypothesis import strategies as st

from include.alerts import MAX_FAILURES, Alert, Failure, RunRef, Section, Severity, run_note


def _alert(headline: str = "2 clients failed", failures: tuple[Failure, ...] = ()) -> Alert:
    return Alert(Severity.ERROR, "dex_trigger_archive", "run 1", headline, ["manifest: s3://bucket/key"], failures)


def _failure(number: int = 1, reason: str = "answered 500") -> Failure:
    return Failure(f"client {number} (Acme)", reason, "archive_client", number, f"http://airflow.test/{number}")


@given(st.text(max_size=300))
def test_subject_is_what_sns_takes(headline: str) -> None:
    subject = _alert(headline).subject
    assert 0 < len(subject) < 100
    assert all(" " <= character <= "~" for character in subject)


def test_subject_names_severity_and_pipeline_and_headline() -> None:
    assert _alert("zwei\nKlienten für 2026-03-08").subject == (
        "[ERROR] dex_trigger_archive: zwei Klienten f?r 2026-03-08"
    )


def test_text_names_pipeline_run_task_map_index_reason_and_log() -> None:
    assert _alert(failures=(_failure(7),)).text == (
        "ERROR in pipeline dex_trigger_archive: 2 clients failed\n"
        "run: run 1\n"
        "manifest: s3://bucket/key\n"
        "- client 7 (Acme) in archive_client[7]: answered 500\n"
        "    log: http://airflow.test/7\n"
        "what to do: docs/RUNBOOK.md"
    )


def test_unmapped_failure_without_log_is_one_line() -> None:
    assert str(Failure("the list", "no database", "list_clients")) == ("- the list in list_clients: no database")


def test_many_failures_become_a_number() -> None:
    text = _alert(failures=tuple(map(_failure, range(MAX_FAILURES + 5)))).text
    assert text.count("in archive_client[") == MAX_FAILURES
    assert text.endswith("- and 5 more\nwhat to do: docs/RUNBOOK.md")


def test_exactly_the_most_failures_need_no_number() -> None:
    text = _alert(failures=tuple(map(_failure, range(MAX_FAILURES)))).text
    assert text.count("in archive_client[") == MAX_FAILURES
    assert "more, see" not in text


def test_reason_stays_on_its_line_and_short() -> None:
    shown = str(_failure(reason="first\nsecond\r\n" + "x" * 5000))
    assert shown.count("\n") == 1, "only the log link has a line of its own"
    assert len(shown) < 600


def test_client_name_cannot_forge_lines_of_the_alert() -> None:
    forged = Failure("client 7 (Acme\nrun: another)", "answered 500", "archive_client", 0)
    assert "\n" not in str(forged)


def test_worst_alert_fits_into_sns() -> None:
    text = _alert("x" * 100_000, tuple(_failure(number, "ü" * 100_000) for number in range(2000))).text
    assert len(text.encode()) < 64 * 1024


@given(st.text(), st.text())
def test_alert_holds_no_character_that_sns_refuses(text: str, fact: str) -> None:
    alert = Alert(Severity.ERROR, "p", text, text, [fact], [Failure(text, text, "task")])
    allowed = alert.text.encode("utf-8").decode("utf-8")
    assert all(character == "\n" or character >= " " for character in allowed)
    assert not set(allowed) & {"\ufffe", "\uffff", "\x7f"}


def test_control_character_is_visible_in_the_alert() -> None:
    assert "client 7 (Ac\\x1bme)" in _alert(failures=(Failure("client 7 (Ac\x1bme)", "x", "task"),)).text


def test_alert_about_a_run_ends_with_the_section_of_the_runbook() -> None:
    run = RunRef("p", "run 1", lambda task, index: "http://airflow.test", "https://wiki.example/runbook")
    alert = run.alert(Severity.ERROR, "it failed", failures=[_failure()], section=Section.AUCTION_RUN)
    assert alert.text.endswith("\nwhat to do: https://wiki.example/runbook#energy-auction-failed-run")


def test_note_has_numbers_keys_and_what_to_do() -> None:
    assert run_note("2 of 3", {"failed": 1000, "manifest": "a/b.json"}, None, "https://a/b") == [
        "**2 of 3**", "", "- what to do: nothing", "- more: [operations page](https://a/b)",
        "- failed: 1,000", "- manifest: `a/b.json`",
    ]  # fmt: skip


def test_key_cannot_write_markup_or_lines_into_a_note() -> None:
    *_, line = run_note("x", {"file": "a`![](https://evil.example)\n- b"}, None, "")
    assert line == "- file: `a'![](https://evil.example) - b`"
