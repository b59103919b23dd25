"""Every DAG file of the repository, whatever it is called: what all DAGs have in common."""

from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

from airflow_ext.defaults import TypedRetryPolicy, refuse_unknown_keys
from airflow_ext.ids import OWNER, Tag
from airflow_ext.notifications.failure_callback import alert_unreported_failure

DAG_FILES = sorted((Path(__file__).resolve().parents[2] / "dags").glob("*.py"))
DAG_IDS = [path.stem for path in DAG_FILES]
HEADINGS = ("What", "Schedule", "Reads", "Writes", "When it fails", "Run again", "Paused")
MAX_LINES = 150
REQUIRED = {"call_details_ingest": {"key"}}
"""Params that a person has to give."""


@pytest.fixture(params=DAG_IDS)
def dag(request: pytest.FixtureRequest, dagbag: DagBag) -> DAG:
    return dagbag.dags[request.param]


def test_every_file_is_the_dag_of_its_name(dagbag: DagBag) -> None:
    assert dagbag.import_errors == {}
    assert DAG_IDS, "no DAG files: these tests would test nothing"
    assert set(dagbag.dags) == set(DAG_IDS)


def test_docstring_is_the_manual(dag: DAG) -> None:
    manual = dag.doc_md or ""
    positions = [manual.find(f"**{heading}.**") for heading in HEADINGS]
    assert -1 not in positions, dict(zip(HEADINGS, positions, strict=True))
    assert positions == sorted(positions)


def test_ui_names_what_it_is_for_when_it_runs_and_whose_it_is(dag: DAG) -> None:
    assert dag.dag_display_name not in ("", dag.dag_id)
    assert dag.description
    sentence, schedule = dag.description.split(" Schedule: ")
    assert sentence.endswith(".")
    assert len(sentence) < 200
    times = {
        "dex_trigger_archive": "20:30 America/New_York.",
        "energy_auction": "every 5 minutes (UTC).",
        "event_delivery": "for each new event, and every minute (UTC).",
        "call_details_watch": "continuous.",
        "call_details_ingest": "by call_details_watch, for each file.",
        "call_details_replay": "none, a person starts it.",
    }
    assert schedule == times[dag.dag_id]
    assert dag.owner == OWNER


def test_page_has_bullets_and_says_where_the_runbook_goes_on(dag: DAG) -> None:
    manual = dag.doc_md or ""
    assert "\n- " in manual
    assert "](RUNBOOK.md#" in manual


def test_every_task_says_what_it_does(dag: DAG) -> None:
    # Of a mapped task Airflow does not take the docstring.
    assert [task.task_id for task in dag.tasks if not (task.doc_md or "").endswith(".")] == []


def test_every_task_has_retries_the_typed_policy_and_a_time_limit(dag: DAG) -> None:
    assert dag.tasks
    for task in dag.tasks:
        assert task.retries, task.task_id
        assert isinstance(task.retry_policy, TypedRetryPolicy), task.task_id
        assert task.execution_timeout is not None, task.task_id
        assert timedelta(0) < task.execution_timeout < timedelta(hours=12), task.task_id


def test_run_has_a_time_limit_and_a_safety_net(dag: DAG) -> None:
    assert dag.dagrun_timeout is not None
    callbacks = dag.on_failure_callback
    assert callbacks in (alert_unreported_failure, [alert_unreported_failure])


def test_every_task_refuses_a_run_with_an_unknown_key_before_it_does_anything(dag: DAG) -> None:
    for task in dag.tasks:
        hook = task.partial_kwargs["pre_execute"] if task.is_mapped else task._pre_execute_hook
        assert hook is refuse_unknown_keys, task.task_id


def test_no_task_takes_its_return_value_apart_into_xcoms(dag: DAG) -> None:
    assert [task.task_id for task in dag.tasks if getattr(task, "multiple_outputs", False)] == []


@pytest.mark.parametrize("dag_id", ["dex_trigger_archive", "energy_auction", "event_delivery"])
def test_cron_expression_of_six_fields_is_refused_while_the_dag_is_parsed(
    dag_id: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__PIPELINES__{dag_id.upper()}_SCHEDULE", "0 6 * * ? *")
    bag = DagBag(dag_folder=str(root / "dags" / f"{dag_id}.py"))
    (error,) = bag.import_errors.values()
    assert "is not a cron expression of five fields" in error
    assert "'30 20 * * 1-5'" in error


def test_tags_are_from_the_vocabulary(dag: DAG) -> None:
    assert dag.tags
    assert set(dag.tags) <= set(Tag)


def test_params_are_typed_titled_and_described(dag: DAG) -> None:
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema.get("type"), name
        assert param.schema.get("title"), name
        assert param.description, name
        if name not in REQUIRED.get(dag.dag_id, ()):
            param.resolve()


@pytest.mark.parametrize("key", [None, "", "incoming/", "incoming/folder/", "incoming/a\n/"])
def test_the_form_of_call_details_ingest_refuses_what_is_no_key_of_a_file(key: str | None, dagbag: DagBag) -> None:
    # A copy, as what is resolved becomes its value.
    param = deepcopy(dagbag.dags["call_details_ingest"].params.get_param("key"))
    assert param.schema["type"] == "string", "so that the form's button stays grey without a key"
    with pytest.raises(ParamValidationError):
        param.resolve() if key is None else param.resolve(key)
    for good in ("incoming/x", "incoming/a/b c.txt", "processing/e1/ä\n", "x"):
        assert param.resolve(good) == good


def test_the_form_of_the_archive_takes_the_ids_of_clients_as_text(dagbag: DagBag) -> None:
    param = deepcopy(dagbag.dags["dex_trigger_archive"].params.get_param("client_ids"))
    for good in (["12"], ["-5"], [str(2**63 - 1)], [12, "13"], [" 12 ", ""], ["12\n"]):
        assert param.resolve(good) == good
    for bad in ([], ["1_000"], ["12\n13"], ["1 2"], ["1.5"], [True], ["١"]):
        with pytest.raises(ParamValidationError):
            param.resolve(bad)


def test_schedule_never_catches_up(dag: DAG) -> None:
    assert dag.catchup is False
    assert dag.start_date.tzinfo is not None


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_dag_file_is_about_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
