"""The stubs' own endpoints, for people and tests: health, control, journal (described in `app`)."""

from __future__ import annotations

import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.partners.call_details import CallDetails
from local.partners.control import Control, InvalidControlError
from local.partners.journal import DEFAULT_LIMIT, Journal
from local.partners.receivers import Receivers

RECEIVED_PATH = "/journal/call-details"
ARRIVALS_PATH = "/journal/receivers"
SECRETS_PATH = "/control/receivers"
MANAGEMENT_PATHS = frozenset({"/health", "/control", "/journal", RECEIVED_PATH, ARRIVALS_PATH, SECRETS_PATH})
JOURNAL_FILTERS = ("path", "since", "limit")


def management(control: Control, journal: Journal, calls: CallDetails, receivers: Receivers) -> Starlette:
    """Return the app that serves MANAGEMENT_PATHS for this control, this journal and these receivers."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show_control(_: Request) -> Response:
        return JSONResponse(control.shown())

    async def put_control(request: Request) -> Response:
        try:
            control.replace(json.loads(await request.body()))
        except InvalidControlError as error:
            return _refused(error.problems)
        except ValueError as error:
            return _refused([f"document: not JSON ({error})"])
        return JSONResponse(control.shown())

    async def reset_control(_: Request) -> Response:
        control.reset()
        return JSONResponse(control.shown())

    async def read_journal(request: Request) -> Response:
        query = request.query_params
        problems = [
            f"{name}: unknown; allowed: {', '.join(JOURNAL_FILTERS)}" for name in query if name not in JOURNAL_FILTERS
        ]
        numbers = {"since": 0, "limit": DEFAULT_LIMIT}
        for name, default in numbers.items():
            text = query.get(name, str(default))
            if text.isascii() and text.isdigit():
                numbers[name] = int(text)
            else:
                problems.append(f"{name}: must be a whole number, 0 or more, not {text!r}")
        if problems:
            return _refused(problems)
        return JSONResponse(journal.read(path=query.get("path", "/"), **numbers))

    async def clear_journal(_: Request) -> Response:
        journal.clear()
        return Response(status_code=204)

    async def show_received(request: Request) -> Response:
        problems = [f"{name}: unknown; allowed: batches" for name in request.query_params if name != "batches"]
        wanted = request.query_params.get("batches", "false")
        if wanted not in ("true", "false"):
            problems.append(f"batches: must be true or false, not {wanted!r}")
        return _refused(problems) if problems else JSONResponse(calls.received(batches=wanted == "true"))

    async def forget_received(_: Request) -> Response:
        calls.forget()
        return Response(status_code=204)

    async def show_secrets(_: Request) -> Response:
        return JSONResponse({"receivers": receivers.known()})

    async def put_secrets(request: Request) -> Response:
        try:
            problems = receivers.know(json.loads(await request.body()))
        except ValueError as error:
            problems = [f"document: not JSON ({error})"]
        return _refused(problems) if problems else await show_secrets(request)

    async def forget_secrets(_: Request) -> Response:
        receivers.forget_secrets()
        return Response(status_code=204)

    async def show_arrivals(request: Request) -> Response:
        query = request.query_params
        problems = [f"{name}: unknown; allowed: receiver, since" for name in query if name not in ("receiver", "since")]
        since = query.get("since", "0")
        if not (since.isascii() and since.isdigit()):
            problems.append(f"since: must be a whole number, 0 or more, not {since!r}")
        if problems:
            return _refused(problems)
        return JSONResponse(receivers.arrived(receiver=query.get("receiver"), since=int(since)))

    async def forget_arrivals(_: Request) -> Response:
        receivers.forget()
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/control", show_control, methods=["GET"]),
            Route("/control", put_control, methods=["PUT"]),
            Route("/control", reset_control, methods=["DELETE"]),
            Route("/journal", read_journal, methods=["GET"]),
            Route("/journal", clear_journal, methods=["DELETE"]),
            Route(RECEIVED_PATH, show_received, methods=["GET"]),
            Route(RECEIVED_PATH, forget_received, methods=["DELETE"]),
            Route(SECRETS_PATH, show_secrets, methods=["GET"]),
            Route(SECRETS_PATH, put_secrets, methods=["PUT"]),
            Route(SECRETS_PATH, forget_secrets, methods=["DELETE"]),
            Route(ARRIVALS_PATH, show_arrivals, methods=["GET"]),
            Route(ARRIVALS_PATH, forget_arrivals, methods=["DELETE"]),
        ]
    )


def _refused(problems: list[str]) -> Response:
    return JSONResponse({"error": "Unprocessable Content", "problems": problems}, status_code=422)
