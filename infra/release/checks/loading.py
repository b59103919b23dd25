"""What Airflow loads: imports, plugin scan, parsing and size, and what mapped tasks make of it. And the parameters."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache

from pathspec import GitIgnoreSpec

from infra.release.checks.requirements import names
from infra.release.project import (
    MWAA,
    SAM,
    TEMPLATE,
    Amount,
    Finding,
    Project,
    at_most,
    bad,
    given_parameters,
    good,
)
from infra.release.templates import parse_template, refusals

OWN = {"include", "airflow_ext"}
_PROVIDERS = "airflow.providers."


def dags(project: Project) -> Iterator[Finding]:
    """Every DAG file loads, and is the DAG of its name."""
    check = "imports/dags"
    for stem, file in project.airflow.dags.items():
        where = f"dags/{stem}.py"
        for error in file["errors"]:
            yield bad(check, where, f"cannot be loaded: {_last_line(error)}", "fix the file; Airflow would not show it")
        if not file["errors"] and list(file["dags"]) != [stem]:
            found = ", ".join(file["dags"]) or "no DAG"
            yield bad(check, where, f"defines {found}", f"define one DAG, with dag_id {stem}, or rename the file")
        elif not file["errors"]:
            yield good(check, where, "loads, and is the DAG of its name")
    if not project.airflow.dags:
        yield bad(check, "dags/", "holds no DAG file", "put the DAGs there")


def modules(project: Project) -> list[Finding]:
    """Every module of plugins and domain imports, also those that no DAG imports while it is parsed."""
    check, change = "imports/modules", "fix the import, or add the package to requirements"
    wrong = [bad(check, name, f"cannot be imported: {why}", change) for name, why in project.airflow.modules.items()]
    count = sum(path.endswith(".py") and not path.startswith("dags/") for path in project.sources)
    return wrong or [good(check, "plugins/, include/", f"all {count} modules import")]


def packages(project: Project) -> list[Finding]:
    """Nothing is imported that neither MWAA's image nor ``requirements.txt`` brings."""
    check, wrong = "imports/packages", []
    brought = project.packages.closure([*project.packages.image, *names(project)])
    for path, line, module in _imports(project):
        top = module.partition(".")[0]
        if top in OWN or top in sys.stdlib_module_names or f"plugins/{top}.py" in project.sources:
            continue
        owners = _owners(project, module)
        if not owners & brought:
            message = f"imports {module}, which neither MWAA's image nor requirements.txt brings"
            change = f"add {' or '.join(sorted(owners)) or top} to requirements.txt, or do without it"
            wrong.append(bad(check, f"{path}:{line}", message, change))
    return wrong or [good(check, "dags/, plugins/, include/", "import only what MWAA has")]


def domain(project: Project) -> list[Finding]:
    """The domain does not import Airflow or what mentions it."""
    check = "imports/domain"
    wrong = [
        bad(check, f"{path}:{line}", f"imports {module}", "move what needs Airflow to plugins/airflow_ext")
        for path, line, module in _imports(project)
        if path.startswith("include/") and module.partition(".")[0] in ("airflow", "airflow_ext")
    ]
    return wrong or [good(check, "include/", "knows nothing of Airflow")]


def _owners(project: Project, module: str) -> set[str]:
    """The packages that bring a module; providers share the module ``airflow.providers`` and are named after theirs."""
    if module.startswith(_PROVIDERS):
        parts = module.removeprefix(_PROVIDERS).split(".")
        names = (f"apache-airflow-providers-{'-'.join(parts[:count])}" for count in (1, 2))
        return {name for name in names if name in project.packages.installed} or {
            f"apache-airflow-providers-{parts[0]}"
        }
    return set(project.packages.providers.get(module.partition(".")[0], ()))


def _imports(project: Project) -> Iterator[tuple[str, int, str]]:
    for path, content in project.sources.items():
        if path.endswith(".py"):
            for line, module in _imports_of(content):
                yield path, line, module


@cache
def _imports_of(source: bytes) -> tuple[tuple[int, str], ...]:
    try:
        return tuple(_imported(ast.parse(source)))
    except SyntaxError:
        # That it cannot be loaded is told by the checks above.
        return ()


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.lineno, child.module
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            # What only type checkers see is not there on MWAA.
            for other in child.orelse:
                yield from _imported(other)
        else:
            yield from _imported(child)


def _last_line(error: str) -> str:
    return next((line for line in reversed(error.splitlines()) if line.strip()), "no message").strip()


IGNORED = "plugins/.airflowignore"

PARSE_SHARE = 1 / 15
"""Of ``core.dagbag_import_timeout``: a small worker of MWAA has a fraction of this machine's speed, and shares it."""

MAX_BYTES = 4 * 1024 * 1024
"""Of all that every component of MWAA fetches and unpacks when it starts. MWAA sets no limit as low; this is several
times what there is, and far below what a stray file of data has."""


PAGE = "plugins/airflow_ext/operations/static/operations.js"
MAX_PAGE_BYTES = 256 * 1024
"""Of the operations page's script, which every browser fetches and reads whole."""

HEAVY = ("aiobotocore", "aiohttp", "airflow_ext.operations.app", "boto3", "botocore", "pymssql", "slack_sdk")
"""What the API server is to import at the page's first request or never, or it starts later and is larger."""


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


def ignored(project: Project) -> list[Finding]:
    """Every package in the plugins folder is kept off the scan."""
    check = "plugins/ignored"
    spec = GitIgnoreSpec.from_lines(project.sources.get(IGNORED, b"").decode().splitlines())
    # In plugins.zip include/ lies beside the packages of plugins/.
    paths = (path.removeprefix("plugins/") for path in project.sources if not path.startswith("dags/"))
    folders = {path.partition("/")[0]: path for path in paths if "/" in path and path.endswith(".py")}
    why = "the plugin scan would run every module of it under its bare name"
    wrong = [
        bad(check, IGNORED, f"does not cover {folder}/: {why}", f"add a line {folder}/")
        for folder, example in sorted(folders.items())
        if not spec.match_file(example)
    ]
    return wrong or [good(check, IGNORED, f"covers {', '.join(f'{folder}/' for folder in sorted(folders))}")]


def parse_time(project: Project) -> Iterator[Finding]:
    """Every DAG file is parsed in a fraction of the time after which Airflow gives up."""
    check, option = "parsing/time", project.option("core.dagbag_import_timeout")
    budget = Amount(option.value * PARSE_SHARE, "the budget", "", "s of CPU")
    why = f"a small worker may pass {option}, and every task takes as long to start"
    for stem, seconds in project.airflow.parse_seconds.items():
        taken = Amount(seconds, "parsing it", f"dags/{stem}.py", "s of CPU")
        yield at_most(check, taken, budget, f"{why}: import what is heavy inside the tasks")


def size(project: Project) -> Iterator[Finding]:
    """What every component fetches at its start is small."""
    for folders in (("plugins", "include"), ("dags",)):
        where = " and ".join(f"{folder}/" for folder in folders)
        files = {path: len(data) for path, data in project.sources.items() if path.partition("/")[0] in folders}
        largest = max(files, key=lambda path: files[path])
        total = Amount(sum(files.values()), "size", f"{where} (largest: {largest})", "bytes")
        budget = Amount(MAX_BYTES, "the budget", "", "bytes")
        why = "every component of MWAA fetches it at each start: data belongs in S3"
        yield at_most("bundle/size", total, budget, why)


def page_script(project: Project) -> Iterator[Finding]:
    """The script of the operations page is in the bundle, and is small."""
    check, script = "page/script", project.sources.get(PAGE)
    if script is None:
        change = "add the file; .gitignore must not cover it"
        yield bad(check, PAGE, "is not in the bundle, and Airflow's UI would show an error instead of the page", change)
        return
    size, budget = Amount(len(script), "size", PAGE, "bytes"), Amount(MAX_PAGE_BYTES, "the budget", "", "bytes")
    yield at_most(check, size, budget, "the page opens slowly where the network is slow")


def page_imports(project: Project) -> list[Finding]:
    """The plugin brings nothing heavy into the API server when that starts."""
    check, where = "page/imports", "plugins/pipelines_plugin.py"
    change = "import it where it is used, within a function"
    why = "when it starts: it would start later and be larger"
    heavy = [name for name in HEAVY if name in project.airflow.api_server]
    wrong = [bad(check, where, f"lets the API server import {name} {why}", change) for name in heavy]
    return wrong or [good(check, where, f"imports none of {', '.join(HEAVY)} in the API server")]


def parameters(project: Project) -> Iterator[Finding]:
    """The templates take what samconfig.toml gives them.

    SAM leaves out a name that the template lacks, without a word; and Airflow's stack would be refused when the
    application is changed already.
    """
    check = "templates/parameters"
    for path in (TEMPLATE, MWAA):
        section, given = given_parameters(project.texts, path, project.environment)
        wrong = list(refusals(parse_template(project.texts[path], path), given))
        if path == TEMPLATE and given.get("Environment") != project.environment:
            # By another name, CloudFormation makes empty buckets, tables and queues beside those with the data.
            wrong.append(f"Environment is {given.get('Environment')!r}, and must be {project.environment!r}")
        for why in wrong:
            yield bad(check, f"{SAM}, {section}", why, f"correct it: {path} describes its parameters")
        if not wrong:
            yield good(check, f"{SAM}, {section}", f"{path} takes all that it gives ({', '.join(given) or 'nothing'})")


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


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "no message")


LARGEST_XCOM = 512 * 1024
"""Bytes. Airflow keeps an XCom as one value of its database, and each mapped task reads the whole list."""


def length(project: Project) -> Iterator[Finding]:
    """No run maps more tasks than Airflow allows, whatever the settings may be set to."""
    limit = project.option("core.max_map_length")
    why = "the task that returns the list fails after its work is done, and so do its retries"
    for amount in (*_counts(project).values(), project.setting("delivery_tasks")):
        yield at_most("mapping/length", amount, limit, why)
    for name in ("max_mapped_clients", "max_mapped_orders", "delivery_tasks"):
        most = project.airflow.settings[name]["most"]
        where = f"upper bound of {name} in plugins/airflow_ext/settings.py"
        bound = Amount(float("inf") if most is None else most, f"most that {name} may be", where)
        yield at_most("mapping/bounds", bound, limit, f"{why}, as soon as somebody raises the setting so far")


def xcom(project: Project) -> Iterator[Finding]:
    """References stay small, all together."""
    budget = Amount(LARGEST_XCOM, "the budget of an XCom", "", "bytes")
    for source, count in _counts(project).items():
        if source in project.airflow.references:
            dag_id, _, task_id = source.partition(".")
            each = project.airflow.references[source]
            where = f"what {task_id} in dags/{dag_id}.py returns for each mapped task"
            total = Amount(count.value * each, f"{count.value:,.0f} references of {each} bytes", where, "bytes")
            yield at_most("mapping/xcom", total, budget, "storing and reading it starves heartbeats: return keys only")


CHECKS = (
    dags,
    modules,
    packages,
    domain,
    scan,
    ignored,
    parse_time,
    size,
    page_script,
    page_imports,
    parameters,
    alert_topic,
    length,
    xcom,
)


def _counts(project: Project) -> dict[str, Amount]:
    """The most tasks that a run maps, by the task that returns the list."""
    return {
        "dex_trigger_archive.list_clients": project.setting("max_mapped_clients"),
        "energy_auction.wait_for_results": project.setting("max_mapped_orders"),
        "call_details_ingest.plan": project.constant("include.call_details.planner.Limits.max_chunks"),
        "call_details_watch.claim_files": project.constant("include.call_details.watcher.MAX_FILES"),
    }
