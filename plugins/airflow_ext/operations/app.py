"""The routes of the operations page, mounted under ``/ops`` by ``plugins/pipelines_plugin.py``.

How it is made: ``static/operations.js`` is one file without a build step; it uses the React of Airflow's UI and its
colours. It reads from the routes here, and it acts by Airflow's own REST API as the user who is logged in.

To add a view:

1. ``views/<name>.py`` with a ``router = APIRouter(prefix="/<name>")`` and an entry in :data:`VIEWS`. A route declares
   its guard (``metadata``, ``bodies``, ``changes`` of ``routing.py``) and is a function that ``@answers`` runs in a
   thread, and that returns a JSON object. Its ``reads`` (``reading.py``) counts AWS calls, knows the settings, and
   remembers; what cannot be reached becomes a strip (``with reads.section():``), not an error.
2. A function of that name in ``static/operations.js``, in its table ``VIEWS``.
3. ``tests/unit/airflow_ext/operations/test_app.py`` walks every route as every role; it finds new ones by itself.

Lists hold no payload, and 25 rows a page: :func:`airflow_ext.operations.reading.page`.
"""

from __future__ import annotations

from pathlib import Path

from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.configuration import conf
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from airflow_ext.defaults import OPERATIONS_VIEWS
from airflow_ext.operations.reading import Source
from airflow_ext.operations.routing import actions_allowed, tagged, to_json
from airflow_ext.operations.views import days, events, evidence, files, orders, tonight
from include.alerts import RUNBOOK

VIEWS = (evidence, days, files, orders, events, tonight)
SCRIPT = Path(__file__).parent / "static" / "operations.js"


def create_app() -> FastAPI:
    """The application; nobody who is not logged in gets anything of it."""
    app = FastAPI(title="Operations", dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)
    app.state.source = Source()
    app.exception_handler(RequestValidationError)(_refused)
    app.add_api_route("/static/operations.js", _script)
    app.add_api_route("/options", _options)
    for view in VIEWS:
        app.include_router(view.router)
    return app


async def _refused(_: Request, error: RequestValidationError) -> Response:
    """What is wrong with a request, without what was sent: FastAPI quotes it, and fails if it cannot be written."""
    faults = [f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()]
    return Response(to_json({"detail": "; ".join(faults)}), 422, media_type="application/json")


async def _script(request: Request) -> Response:
    return tagged(request, SCRIPT.read_bytes(), "text/javascript; charset=utf-8")


async def _options(request: Request) -> Response:
    runbook = str(conf.get("pipelines", "runbook_url", fallback=RUNBOOK))
    found = {"actions": actions_allowed(), "runbook": runbook, "views": OPERATIONS_VIEWS}
    return tagged(request, to_json(found), "application/json")
