"""Mapped tasks: how many a run makes, and how much XCom carries for them."""

from __future__ import annotations

from collections.abc import Iterator

from infra.release.project import Amount, Finding, Project, at_most

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


CHECKS = (length, xcom)


def _counts(project: Project) -> dict[str, Amount]:
    """The most tasks that a run maps, by the task that returns the list."""
    return {
        "dex_trigger_archive.list_clients": project.setting("max_mapped_clients"),
        "energy_auction.wait_for_results": project.setting("max_mapped_orders"),
        "call_details_ingest.plan": project.constant("include.call_details.planner.Limits.max_chunks"),
        "call_details_watch.claim_files": project.constant("include.call_details.watcher.MAX_FILES"),
    }
