"""One live stack for all end-to-end tests; every test has clients, days and faults of its own."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser

from local.clients import AirflowApi, pause_when_idle
from local.processes.layout import LOOPBACK, Layout
from local.sample.client_database import create_client_database
from local.services.airflow import DEFAULT_EXECUTOR, EXECUTORS, Executor
from local.stack.control import StackOptions, running_stack
from local.stack.description import Stack
from tests.worlds.browser import OpenPage, Window, running_browser
from tests.worlds.live import archive as archive_world
from tests.worlds.live import auction as auction_world
from tests.worlds.live import call_details as call_details_world
from tests.worlds.live import delivery as delivery_world
from tests.worlds.live.archive import Archive
from tests.worlds.live.auction import Results
from tests.worlds.live.call_details import Ingest
from tests.worlds.live.delivery import Delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline, far_schedules
from tests.worlds.live.processes import family
from tests.worlds.live.secrets import DEX_DB, PLANTED, SLACK, Secrets
from tests.worlds.live.waiting import wait_until

HERE = Path(__file__).parent
LAST = "test_no_secret_anywhere.py"
ON_CELERY_ONLY = "test_celery_"
"""Files that begin so are about what other executors do not have."""
TEST_SECONDS = 900
GONE_WITHIN_SECONDS = 30.0
FEW_CLIENTS = 5
FEW_ORDERS = 2

UseClients = Callable[[Sequence[int]], None]
NewDay = Callable[[], date]


CELERY_OPTIONS = {
    # What a lost worker had not acknowledged is given out again after so many seconds: tasks that take longer meet it,
    # too. When a worker is missed is as shipped.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "10"
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which executor the stack has."""
    parser.addoption(
        "--executor", choices=EXECUTORS, default=DEFAULT_EXECUTOR, help="executor of the stack (default: %(default)s)"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is about another executor; None leaves the decision to others."""
    about_celery = collection_path.parent == HERE and collection_path.name.startswith(ON_CELERY_ONLY)
    return True if about_celery and executor_of(config) != "CeleryExecutor" else None


def executor_of(config: pytest.Config) -> Executor:
    """The executor that was asked for; the option is unknown where pytest was not started on this directory."""
    return config.getoption("--executor", default=DEFAULT_EXECUTOR)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this directory may talk to this machine and take their time; the search for leaks comes last."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.allow_hosts([LOOPBACK]))
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    items.sort(key=lambda item: item.path.name == LAST)


@pytest.fixture(scope="session")
def executor(pytestconfig: pytest.Config) -> Executor:
    """What runs the tasks of the stack."""
    return executor_of(pytestconfig)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, executor: Executor) -> Iterator[Stack]:
    """A stack with a state directory of its own; when it has stopped, none of its processes is left."""
    state = tmp_path_factory.mktemp("stack")
    options = {
        **far_schedules(),
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        # No DAG is edited. The failure callback of a second run may wait for its file's next turn.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
    } | (CELERY_OPTIONS if executor == "CeleryExecutor" else {})
    with running_stack(StackOptions(state_directory=state, executor=executor, airflow_options=options)) as running:
        yield running
        failed = Layout(state).failed_file
        assert not failed.exists(), failed.read_text()
        processes = family(state)
    assert len(processes) > len(running.pids)
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_SECONDS)
    assert alive == []


@pytest.fixture(scope="session")
def session_secrets(stack: Stack) -> Secrets:
    """Secrets as they are for the whole session: Slack's is one that can be recognised."""
    store = Secrets(stack)
    store.change(SLACK, password=f"T000/B000/{PLANTED}-slack")
    return store


@pytest.fixture(scope="session")
def all_partners(stack: Stack, session_secrets: Secrets) -> Iterator[Partners]:
    """The partner stubs of the session."""
    stubs = Partners(stack, session_secrets)
    yield stubs
    stubs.close()


@pytest.fixture(scope="session")
def airflow(stack: Stack) -> Iterator[AirflowApi]:
    with AirflowApi(stack) as api:
        yield api


@pytest.fixture(scope="session")
def pipeline(airflow: AirflowApi, session_secrets: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The archive, switched on, with few clients for whoever names no others."""
    few = tmp_path_factory.mktemp("clients") / "few.sqlite"
    create_client_database(few, clients=FEW_CLIENTS)
    session_secrets.put(DEX_DB, {"conn_type": "sqlite", "host": str(few)})
    airflow.unpause(archive_world.DAG_ID)
    return Pipeline(archive_world.DAG_ID, airflow)


@pytest.fixture(scope="session")
def auction(stack: Stack, airflow: AirflowApi) -> Pipeline:
    """The auction, switched on; that makes it run for the slot that has passed: few orders that no test is to meet."""
    functions, name = stack.aws("lambda"), stack.auction_results_function
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    variables |= {"MAX_ORDERS": str(FEW_ORDERS)}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    airflow.unpause(auction_world.DAG_ID)
    pipeline = Pipeline(auction_world.DAG_ID, airflow)
    wait_until(pipeline.run_ids, what="the schedule's own run")
    pipeline.wait_until_idle()
    return pipeline


@pytest.fixture(scope="session")
def ingest_runs(airflow: AirflowApi) -> Pipeline:
    """The ingest of call details, switched on; the watcher is not, so what is dropped waits for a trigger."""
    airflow.unpause(call_details_world.DAG_ID)
    return Pipeline(call_details_world.DAG_ID, airflow)


@pytest.fixture(scope="session")
def replay(airflow: AirflowApi) -> Pipeline:
    """The replay of dead letters, switched on."""
    airflow.unpause(call_details_world.REPLAY_DAG_ID)
    return Pipeline(call_details_world.REPLAY_DAG_ID, airflow)


@pytest.fixture(autouse=True)
def no_run_left(pipeline: Pipeline, auction: Pipeline, ingest_runs: Pipeline, replay: Pipeline) -> Iterator[None]:
    """No run reaches into the next test: not one that a failed test left, nor one that the schedule started."""
    yield
    for each in (pipeline, auction, ingest_runs, replay):
        each.wait_until_idle()


@pytest.fixture(scope="session")
def archive(stack: Stack) -> Archive:
    return Archive(stack)


@pytest.fixture(scope="session")
def results(stack: Stack, auction: Pipeline) -> Results:
    return Results(stack, auction)


@pytest.fixture(scope="session")
def ingest(stack: Stack, all_partners: Partners, ingest_runs: Pipeline) -> Ingest:
    return Ingest(stack, all_partners, ingest_runs)


@pytest.fixture(scope="session")
def events_api(stack: Stack, airflow: AirflowApi, all_partners: Partners) -> Iterator[Delivery]:
    api = Delivery(stack, Pipeline(delivery_world.DAG_ID, airflow))
    yield api
    api.close()


@pytest.fixture(scope="module")
def delivery(events_api: Delivery, airflow: AirflowApi) -> Iterator[Delivery]:
    """The same, with the delivery switched on: it runs every minute, and only while a module needs it."""
    airflow.unpause(delivery_world.DAG_ID)
    yield events_api
    pause_when_idle(airflow, delivery_world.DAG_ID)


@pytest.fixture(scope="session")
def functions(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Functions:
    """Makes Lambda functions that play a part."""
    return Functions(stack, tmp_path_factory.mktemp("journals"))


@pytest.fixture(scope="session")
def inbox(stack: Stack) -> Inbox:
    """What people received."""
    return Inbox(stack)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a module, as no test beside it could call ``asyncio.run``."""
    with running_browser() as opened:
        yield opened


@pytest.fixture
def open_page(stack: Stack, browser: Browser) -> Iterator[OpenPage]:
    """Opens pages of Airflow; when the test ends, none had an error or asked another host."""
    with Window(browser, stack.airflow_url) as opened:
        yield opened.open
    assert opened.errors == []
    assert opened.elsewhere == []


@pytest.fixture(scope="session")
def days() -> Iterator[date]:
    """Days that no test has used."""
    return (date(2024, 1, 8) + timedelta(days=number) for number in itertools.count())


@pytest.fixture
def new_day(days: Iterator[date]) -> NewDay:
    """Gives a trigger date of the test's own with each call."""
    return lambda: next(days)


@pytest.fixture
def secrets(stack: Stack, session_secrets: Secrets) -> Iterator[Secrets]:
    """The stack's secrets, put back after the test."""
    store = Secrets(stack)
    yield store
    store.restore()


@pytest.fixture
def partners(all_partners: Partners) -> Iterator[Partners]:
    """The partner stubs, without faults until the test orders some."""
    all_partners.order()
    yield all_partners
    all_partners.order()


@pytest.fixture
def use_clients(tmp_path: Path, secrets: Secrets) -> UseClients:
    """Points ``dex_db`` at a database with these eligible clients, and some that are not."""
    databases = itertools.count()

    def use(clients: Sequence[int]) -> None:
        path = tmp_path / f"clients-{next(databases)}.sqlite"
        with closing(sqlite3.connect(path)) as database, database:
            database.executescript(
                "CREATE TABLE Client (ClientID INTEGER, name TEXT, OAuth2ClientCredentialsID INTEGER);"
                "CREATE TABLE ClientServiceExt (ClientID INTEGER, ServiceID INTEGER);"
                "INSERT INTO Client VALUES (1, 'without credentials', NULL), (2, 'other service', 12);"
                "INSERT INTO ClientServiceExt VALUES (1, 2), (2, 7);"
            )
            rows = [(client, f"Łódź <Grid> & Sons {client}", client) for client in clients]
            database.executemany("INSERT INTO Client VALUES (?, ?, ?)", rows)
            services = [(client, service) for client in clients for service in (2, 5)]
            database.executemany("INSERT INTO ClientServiceExt VALUES (?, ?)", services)
        secrets.put(DEX_DB, {"conn_type": "sqlite", "host": str(path)})

    return use
