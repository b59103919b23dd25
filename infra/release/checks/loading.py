"""What Airflow loads by itself: the plugin scan, the parsing of DAG files, the size of it all, its alerts' topic."""

from __future__ import annotations

from collections.abc import Iterator

from pathspec import GitIgnoreSpec

from infra.release.project import MWAA, Amount, Finding, Project, at_most, bad, good
from infra.release.templates import parse_template

IGNORED = "plugins/.airflowignore"

PARSE_SHARE = 1 / 15
"""Of ``core.dagbag_import_timeout``: a small worker of MWAA has a fraction of this machine's speed, and shares it."""

MAX_BYTES = 4 * 1024 * 1024
"""Of all that every component of MWAA fetches and unpacks when it starts. MWAA sets no limit as low; this is several
times what there is, and far below what a stray file of data has."""


def scan(project: Project) -> Iterator[Finding]:
    """The plugin scan registers every plugin once, and runs nothing under a name that is not its own."""
    check, found = "plugins/scan", project.airflow.plugins
    for name, error in found["errors"].items():
        yield bad(check, f"plugins/{name}", f"is not registered: {_first_line(error)}", "fix the plugin")
    for name, path in found["strays"].items():
        yield bad(
            check,
            f"plugins/{path}",
            f"is run by the plugin scan under the bare name {name}, and replaces whatever has that name",
            f"list its package in {IGNORED}",
        )
    if not found["names"]:
        yield bad(check, "plugins/", "no plugin is registered", f"do not list the plugin's file in {IGNORED}")
    elif not found["errors"] and not found["strays"]:
        yield good(check, "plugins/", f"registers {', '.join(found['names'])}, and nothing else is run by the scan")


def ignored(project: Project) -> Iterator[Finding]:
    """Every package in the plugins folder is kept off the scan."""
    check, clean = "plugins/ignored", True
    spec = GitIgnoreSpec.from_lines(project.sources.get(IGNORED, b"").decode().splitlines())
    # In plugins.zip include/ lies beside the packages of plugins/.
    paths = (path.removeprefix("plugins/") for path in project.sources if not path.startswith("dags/"))
    folders = {path.partition("/")[0]: path for path in paths if "/" in path and path.endswith(".py")}
    for folder, example in sorted(folders.items()):
        if not spec.match_file(example):
            clean = False
            yield bad(
                check,
                IGNORED,
                f"does not cover {folder}/: the plugin scan would run every module of it under its bare name",
                f"add a line {folder}/",
            )
    if clean:
        yield good(check, IGNORED, f"covers {', '.join(f'{folder}/' for folder in sorted(folders))}")


def parse_time(project: Project) -> Iterator[Finding]:
    """Every DAG file is parsed in a fraction of the time after which Airflow gives up."""
    check, option = "parsing/time", project.option("core.dagbag_import_timeout")
    budget = Amount(option.value * PARSE_SHARE, "the budget", "", "s of CPU")
    for stem, seconds in project.airflow.parse_seconds.items():
        taken = Amount(seconds, "parsing it", f"dags/{stem}.py", "s of CPU")
        yield at_most(
            check,
            taken,
            budget,
            f"a small worker may pass {option}, and every task takes as long to start: import what is heavy inside "
            "the tasks",
        )


def size(project: Project) -> Iterator[Finding]:
    """What every component fetches at its start is small."""
    for folders in (("plugins", "include"), ("dags",)):
        where = " and ".join(f"{folder}/" for folder in folders)
        files = {path: len(data) for path, data in project.sources.items() if path.partition("/")[0] in folders}
        largest = max(files, key=lambda path: files[path])
        total = Amount(sum(files.values()), "size", f"{where} (largest: {largest})", "bytes")
        yield at_most(
            "bundle/size",
            total,
            Amount(MAX_BYTES, "the budget", "", "bytes"),
            "every component of MWAA fetches it at each start: data belongs in S3",
        )


def alert_topic(project: Project) -> Iterator[Finding]:
    """Airflow's option names the topic of the alerts, for a run whose settings cannot be read."""
    check, option, parameter = "alerts/option", "pipelines.alert_topic_arn", {"Ref": "AlertsTopicArn"}
    for resource in parse_template(project.texts[MWAA], MWAA)["Resources"].values():
        if resource["Type"] != "AWS::MWAA::Environment":
            continue
        if resource["Properties"].get("AirflowConfigurationOptions", {}).get(option) == parameter:
            yield good(check, MWAA, f"{option} is the topic of the alerts")
        else:
            wrong = (
                f"{option} is not the topic of the alerts: settings that cannot be read would be alerted by Slack alone"
            )
            yield bad(check, MWAA, wrong, f"write {option}: !Ref AlertsTopicArn")


CHECKS = (scan, ignored, parse_time, size, alert_topic)


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "no message")
