"""The documents: `make prove` can run their commands, their links lead somewhere, no alarm is missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import prove
from include.alerts import Section
from tests.packaging.template import ROOT
from tests.worlds.templates import load

RUNBOOK = ROOT / "docs" / "RUNBOOK.md"
DOCUMENTS = sorted(
    path
    for place in ("*.md", "docs/**/*.md", "infra/*.md", "benchmarks/*.md", "findings/*.md")
    for path in ROOT.glob(place)
)
ALARM_PREFIX = "pipelines-${Environment}-"
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The headings of a document as GitHub links to them."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    assert {section.value for section in Section} <= anchors(RUNBOOK)


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/RUNBOOK.md", "infra/README.md"])
def test_every_block_of_commands_can_be_parsed_and_most_are_run(name: str) -> None:
    blocks = prove.blocks_of(name, (ROOT / name).read_text(encoding="utf-8"))
    assert blocks
    assert {block.where: prove.syntax_error(block) for block in blocks} == {block.where: "" for block in blocks}
    assert (ROOT / name).read_text(encoding="utf-8").count("```sh\n") == len(blocks)


def test_documents_with_commands_are_all_proven() -> None:
    with_commands = {str(path.relative_to(ROOT)) for path in DOCUMENTS if "```sh\n" in path.read_text(encoding="utf-8")}
    assert with_commands <= set(prove.DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_stand_in_blocks_that_are_proven(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^```(bash|shell|console|)$\n(?!```)(?=[a-z.]+ )", text, re.MULTILINE) == []
    assert re.findall(r"^\n    (?:aws|make|cd|python|sam|curl) .*$", text, re.MULTILINE) == []


def test_a_command_that_fails_ends_the_document_and_is_named() -> None:
    text = "# Title\n\n```sh\necho one\nfalse\necho two\n```\n\n```sh\necho three\n```\n"
    done = run(prove.script_of(prove.blocks_of("page.md", text)))
    assert done.returncode != 0
    assert done.stdout == "==> page.md:4\none\n"
    assert "error: page.md:4: this command failed: false" in done.stderr


def test_a_command_that_fails_inside_a_function_or_a_pipe_is_noticed_too() -> None:
    for commands in ("look() { false; true; }\nlook", "false | cat", 'name=$(false)\necho "$name"'):
        assert run(prove.script_of(prove.blocks_of("page.md", f"```sh\n{commands}\n```\n"))).returncode != 0, commands


def test_blocks_share_a_shell_and_what_needs_an_account_is_left_out() -> None:
    not_run = "<!-- not run by make prove: needs an account -->\n```sh\nfalse\n```\n"
    text = f"```sh\nname=ada\n```\n\n{not_run}\n```sh\necho $name\n```\n"
    blocks = prove.blocks_of("page.md", text)
    assert [block.reason for block in blocks] == ["", "needs an account", ""]
    done = run(prove.script_of(blocks))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "ada"


def test_shell_knows_nothing_but_python_and_aws(tmp_path: Path) -> None:
    shell = prove._shell(Path("/opt/somewhere/aws"), tmp_path)
    assert set(shell) == {"PATH", "HOME", "LANG", "TERM", "UV_CACHE_DIR"}
    tools = Path(shell["PATH"].split(":")[0])
    assert sorted(path.name for path in tools.iterdir()) == ["aws", "python3.12"]
    assert (tools / "aws").readlink() == Path("/opt/somewhere/aws")
    assert list(Path(shell["HOME"]).iterdir()) == []


OUT_OF_REACH = """
import socket
from docs import prove
try:
    prove.leave_the_network()
except OSError:
    raise SystemExit("the system does not let it")
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
for address in ("192.0.2.1", "169.254.169.254"):
    try:
        socket.create_connection((address, 80), timeout=5)
    except OSError as error:
        print(error.errno == 101)
"""


def test_documents_are_walked_in_a_network_that_is_this_machine_alone() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_REACH], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) in (("True\nTrue\n", ""), ("", "the system does not let it\n"))


def test_commands_that_bash_cannot_parse_are_reported() -> None:
    (block,) = prove.blocks_of("page.md", "```sh\nif true; then\n```\n")
    assert "syntax error" in prove.syntax_error(block)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        target = (path.parent / link["path"]).resolve() if link["path"] else path
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def alarms(actions: str = "AlarmActions") -> set[str]:
    resources = [item for name in ("template.yaml", "mwaa.yaml") for item in load(name)["Resources"].values()]
    found = [item["Properties"] for item in resources if item["Type"].startswith("AWS::CloudWatch::")]
    # One that tells nobody is a part of another.
    names = [properties["AlarmName"]["Fn::Sub"] for properties in found if actions in properties]
    assert all(name.startswith(ALARM_PREFIX) for name in names)
    return {name.removeprefix(ALARM_PREFIX) for name in names}


def entries() -> dict[str, str]:
    """The runbook's entries of alarms by name."""
    part = RUNBOOK.read_text(encoding="utf-8").partition("\n## Alarms\n")[2].partition("\n## ")[0]
    pieces = re.split(r"^### (.+)$", part, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_every_alarm_has_an_entry_in_the_runbook_and_no_entry_lacks_its_alarm() -> None:
    assert set(entries()) == alarms()


def test_runbook_names_the_alarms_that_say_when_they_are_over() -> None:
    over = RUNBOOK.read_text(encoding="utf-8").partition("**Is it over?**")[2].partition(". All others")[0]
    *named, silent = re.findall(r"`([\w-]+)`", over)
    telling = {name for name in alarms("OKActions") if not name.startswith("airflow-")}
    assert telling == {name for name in alarms() if name.endswith(tuple(named))}
    assert {name for name in alarms() if name.startswith("airflow-")} - alarms("OKActions") == {silent}


def test_every_entry_says_what_the_alarm_means_what_to_check_and_how_to_act() -> None:
    for name, text in entries().items():
        for word in ("**Means.**", "**check", "**act"):
            assert word.lower() in text.lower(), name


def test_no_command_that_is_proven_hides_its_failure() -> None:
    for name in prove.DOCUMENTS:
        for block in prove.blocks_of(name, (ROOT / name).read_text(encoding="utf-8")):
            assert not re.search(r"\|\| *(echo|true|:)", block.text), block.where


def test_no_command_has_a_comment_which_an_interactive_zsh_takes_for_arguments() -> None:
    for name in prove.DOCUMENTS:
        for block in prove.blocks_of(name, (ROOT / name).read_text(encoding="utf-8")):
            assert not re.search(r"(^|\s)#", block.text, re.MULTILINE), block.where


def test_no_command_has_a_secret_among_its_arguments() -> None:
    for path in (RUNBOOK, ROOT / "infra" / "README.md", ROOT / "docs" / "CONFIGURATION.md"):
        for block in prove.blocks_of(path.name, path.read_text(encoding="utf-8")):
            assert not re.search(r"--(secret-string|value) +(?!\"?file://)\S", block.text), block.where


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    named = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|ya?ml|toml|txt|md|sql))`", text)
    roots = (ROOT, ROOT / "plugins", path.parent)
    absent = {name for name in named if not any((root / name).is_file() for root in roots)}
    # Made by the stack, by `make bundle`, or a key of a bucket.
    assert {name for name in absent if not name.startswith((".local/", "incoming/"))} == set()


def test_every_test_that_tried_md_names_is_there(root: Path) -> None:
    named = set(re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", (root / "docs" / "TRIED.md").read_text()))
    assert len(named) > 40
    sources = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", sources))
    assert [name for name in named if name not in defined and not (root / name).is_file()] == []
