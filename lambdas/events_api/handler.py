"""`events-api`: the routes. Their docstrings are their summaries and descriptions in the OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayHttpResolver, Response
from aws_lambda_powertools.metrics import Metrics, MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common import environment
from lambdas.common.errors import MethodNotAllowedError, NotFoundError, UnavailableError
from lambdas.common.http import METHODS, error_response, json_response, log_unexpected, methods_but, request_id
from lambdas.events_api.models import event_view, page_view, receipt_view
from lambdas.events_api.requests import caller_of, owner_of, read_events_query, read_inbox_query, read_new_event
from lambdas.events_api.service import Events, Pending
from lambdas.events_api.store import DeliveryQueue, EventStore, IdSecret, dynamodb_client, secrets_client, sqs_client

Route = Callable[..., Response[str]]

logger = Logger()
metrics = Metrics(namespace=environment.text("POWERTOOLS_METRICS_NAMESPACE"))
# Not what POWERTOOLS_DEV says: in debug mode the resolver prints whole events.
app = APIGatewayHttpResolver(debug=False)
# Made while the function starts: there is more CPU then, and a warm call keeps the connections.
events = Events(
    EventStore(dynamodb_client(), environment.text("EVENTS_TABLE")),
    DeliveryQueue(sqs_client(), environment.text("EVENT_QUEUE_URL")),
    IdSecret(secrets_client(), environment.text("EVENT_IDS_SECRET_ID")),
)
HEALTH = {
    "status": "ok",
    "message": "Triggers API is healthy",
    "version": environment.text("API_VERSION"),
    "environment": environment.text("ENVIRONMENT"),
}
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""The page of the document runs no script and loads nothing."""

ROUTES: dict[str, dict[str, Route]] = {}
"""The functions by path and method. Where there is a GET, HEAD does the same."""


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says.
@logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway; logs ids, counts and times."""
    started = time.perf_counter()
    caller = caller_of(event)
    logger.append_keys(request_id=request_id(event, context), owner=caller.get("owner"), key_id=caller.get("key_id"))
    answer = app.resolve(event, context)
    if app.current_event.http_method == "HEAD":
        answer["body"] = ""
    logger.info("answered", status=answer["statusCode"], duration_ms=round((time.perf_counter() - started) * 1000, 1))
    return answer


def route(method: str, path: str, *, needs_key: bool = True) -> Callable[[Route], Route]:
    """A route. One that needs a key gets the key's owner, and is not called when there is none."""

    def register(act: Route) -> Route:
        def checked(**of_path: str) -> Response[str]:
            return act(owner_of(app.current_event.raw_event), **of_path)

        app.route(path, method=["GET", "HEAD"] if method == "GET" else method)(checked if needs_key else act)
        ROUTES.setdefault(path, {})[method] = act
        return act

    return register


def static(name: str, content_type: str) -> Response[str]:
    """A file that `make docs` generates beside this one."""
    headers = {"Cache-Control": "public, max-age=3600", "Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(200, content_type, Path(__file__).with_name(name).read_text(encoding="utf-8"), headers)


@route("GET", "/health", needs_key=False)
def get_health() -> Response[str]:
    """Whether the API runs

    Says nothing of the table and the queue, which every other route needs.
    """
    return json_response(200, HEALTH)


@route("GET", "/openapi.json", needs_key=False)
def get_openapi() -> Response[str]:
    """The API's document"""
    return static("openapi.json", "application/json")


@route("GET", "/docs", needs_key=False)
def get_docs() -> Response[str]:
    """The API's document as a page for people"""
    return static("docs.html", "text/html; charset=utf-8")


@route("POST", "/events")
def post_event(owner: str) -> Response[str]:
    """Post an event

    Stores the event, then has it delivered. With an idempotency_key the request may be repeated without harm: however
    often and at once it is sent, it makes one event.
    """
    pending = events.post(owner, read_new_event(app.current_event.raw_event))
    _record(pending, EventsPosted=int(pending.created), EventsRepeated=int(not pending.created))
    if pending.created:
        return json_response(201, receipt_view(pending.event, "the event is stored and waits for its delivery"))
    return json_response(200, receipt_view(pending.event, "the idempotency key has this event already"))


@route("GET", "/events")
def list_events(owner: str) -> Response[str]:
    """The owner's events, newest first

    The filters can be combined. A page may have fewer events than asked for, or none, and a cursor all the same.
    """
    query = read_events_query(app.current_event.query_string_parameters, owner)
    return json_response(200, page_view(*events.page(owner, query)))


@route("GET", "/inbox")
def list_inbox(owner: str) -> Response[str]:
    """The owner's pending events, oldest first

    What is still to be delivered, in the order in which it will be.
    """
    query = read_inbox_query(app.current_event.query_string_parameters, owner)
    return json_response(200, page_view(*events.page(owner, query)))


@route("GET", "/events/<event_id>")
def get_event(owner: str, event_id: str) -> Response[str]:
    """One event

    As it is now, with its last ten attempts.
    """
    return json_response(200, event_view(events.get(owner, event_id)))


@route("DELETE", "/events/<event_id>")
def delete_event(owner: str, event_id: str) -> Response[str]:
    """Delete an event

    It is not delivered any more, and its idempotency_key is free again.
    """
    events.delete(owner, event_id)
    return Response(204, body="")


@route("POST", "/events/<event_id>/acknowledge")
def acknowledge_event(owner: str, event_id: str) -> Response[str]:
    """Acknowledge an event

    Whatever its status, it becomes acknowledged: it leaves the inbox, and is not delivered any more. The request may be
    repeated.
    """
    events.acknowledge(owner, event_id)
    return Response(204, body="")


@route("POST", "/events/<event_id>/replay")
def replay_event(owner: str, event_id: str) -> Response[str]:
    """Have an event delivered again

    Whatever its status, it becomes pending, as if it had never been tried. It keeps its place: the owner's newer events
    wait for it.
    """
    pending = events.replay(owner, event_id)
    _record(pending, EventsReplayed=1)
    return json_response(202, receipt_view(pending.event, "the event waits for its delivery again"))


def refuse_other_methods(path: str) -> None:
    """Answer 405 to the methods that a path does not take."""
    taken = {*ROUTES[path], *(["HEAD"] if "GET" in ROUTES[path] else ())}
    allowed = sorted(taken, key=METHODS.index)

    def refuse(**_: str) -> Response[str]:
        raise MethodNotAllowedError(*allowed)

    app.route(path, method=methods_but(*allowed))(refuse)


for known_path in ROUTES:
    refuse_other_methods(known_path)


def failed(error: Exception) -> Response[str]:
    """Tell the caller what concerns the caller, and the log where any other error was raised."""
    log_unexpected(logger, error)
    if isinstance(error, UnavailableError):
        logger.error("unavailable", reasons=error.reasons)
    return error_response(error, request_id(app.current_event.raw_event, app.lambda_context))


# API Gateway passes on what none of its own routes takes.
app.not_found(lambda _: failed(NotFoundError()))
app.exception_handler(Exception)(failed)


def _record(pending: Pending, **counts: int) -> None:
    logger.append_keys(event_id=pending.event.event_id)
    if pending.not_woken:
        logger.warning("delivery not woken: its timed run will find the event", reason=pending.not_woken)
    for name, value in {**counts, "DeliveryNotWoken": int(bool(pending.not_woken))}.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()
