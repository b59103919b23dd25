"""`events-api`: the routes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayHttpResolver, Response
from aws_lambda_powertools.metrics import Metrics, MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common import environment
from lambdas.common.errors import MethodNotAllowedError, NotFoundError, UnavailableError
from lambdas.common.http import Answer, json_response, log_unexpected, methods_but, request_id, response
from lambdas.events_api.caller import findings, owner_of
from lambdas.events_api.requests import read_events_query, read_inbox_query, read_new_event
from lambdas.events_api.responses import error_answer, event_view, page_view, receipt_view
from lambdas.events_api.service import Events, Pending
from lambdas.events_api.store import DynamoEventStore, SqsDeliveryQueue, dynamodb_client, sqs_client

logger = Logger()
metrics = Metrics(namespace=environment.text("POWERTOOLS_METRICS_NAMESPACE"))
# Not what POWERTOOLS_DEV says: in debug mode the resolver prints whole events.
app = APIGatewayHttpResolver(debug=False)
# Made while the function starts: there is more CPU then, and a warm call keeps the connections.
events = Events(
    DynamoEventStore(dynamodb_client(), environment.text("EVENTS_TABLE")),
    SqsDeliveryQueue(sqs_client(), environment.text("EVENT_QUEUE_URL")),
)
HEALTH = {
    "status": "ok",
    "message": "Triggers API is healthy",
    "version": environment.text("API_VERSION"),
    "environment": environment.text("ENVIRONMENT"),
}
METHODS_OF_PATHS = {
    "/health": ("GET",),
    "/events": ("GET", "POST"),
    "/inbox": ("GET",),
    "/events/<event_id>": ("GET", "DELETE"),
    "/events/<event_id>/acknowledge": ("POST",),
    "/events/<event_id>/replay": ("POST",),
}


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says.
@logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway; logs ids, counts and times."""
    started = time.perf_counter()
    caller = findings(event)
    logger.append_keys(request_id=request_id(event, context), owner=caller.get("owner"), key_id=caller.get("key_id"))
    answer = app.resolve(event, context)
    logger.info("answered", status=answer["statusCode"], duration_ms=round((time.perf_counter() - started) * 1000, 1))
    return answer


def for_owner(method: str, path: str) -> Callable[[Callable[..., Response[str]]], Callable[..., Response[str]]]:
    """A route for those who have a key: what it does gets the key's owner, and is not called when there is none."""

    def register(act: Callable[..., Response[str]]) -> Callable[..., Response[str]]:
        def checked(**of_path: str) -> Response[str]:
            return act(owner_of(app.current_event.raw_event), **of_path)

        app.route(path, method=method)(checked)
        return act

    return register


@app.get("/health")
def get_health() -> Response[str]:
    """Whether the API runs; it says nothing of the table and the queue, which every other route needs."""
    return response(Answer(200, HEALTH))


@for_owner("POST", "/events")
def post_event(owner: str) -> Response[str]:
    """Keep an event and have it delivered."""
    pending = events.post(owner, read_new_event(app.current_event.raw_event))
    _note(pending, EventsPosted=int(pending.created), EventsRepeated=int(not pending.created))
    if pending.created:
        return json_response(201, receipt_view(pending.event, "the event is stored and waits for its delivery"))
    return json_response(200, receipt_view(pending.event, "the idempotency key has this event already"))


@for_owner("GET", "/events")
def list_events(owner: str) -> Response[str]:
    """A page of the owner's events, newest first."""
    query = read_events_query(app.current_event.query_string_parameters, owner)
    return json_response(200, page_view(*events.page(owner, query)))


@for_owner("GET", "/inbox")
def list_inbox(owner: str) -> Response[str]:
    """A page of the owner's pending events, oldest first."""
    query = read_inbox_query(app.current_event.query_string_parameters, owner)
    return json_response(200, page_view(*events.page(owner, query)))


@for_owner("GET", "/events/<event_id>")
def get_event(owner: str, event_id: str) -> Response[str]:
    """One event."""
    return json_response(200, event_view(events.get(owner, event_id)))


@for_owner("DELETE", "/events/<event_id>")
def delete_event(owner: str, event_id: str) -> Response[str]:
    """Forget an event."""
    events.delete(owner, event_id)
    return Response(204, body="")


@for_owner("POST", "/events/<event_id>/acknowledge")
def acknowledge_event(owner: str, event_id: str) -> Response[str]:
    """Let an event be acknowledged."""
    events.acknowledge(owner, event_id)
    return Response(204, body="")


@for_owner("POST", "/events/<event_id>/replay")
def replay_event(owner: str, event_id: str) -> Response[str]:
    """Have an event delivered again."""
    pending = events.replay(owner, event_id)
    _note(pending, EventsReplayed=1)
    return json_response(202, receipt_view(pending.event, "the event waits for its delivery again"))


def other_methods(*allowed: str) -> Callable[..., Response[str]]:
    """Refuses the methods that a path does not take."""

    def refuse(**_: str) -> Response[str]:
        raise MethodNotAllowedError(*allowed)

    return refuse


for path, allowed in METHODS_OF_PATHS.items():
    app.route(path, method=methods_but(*allowed))(other_methods(*allowed))


def other_paths(_: Exception) -> Response[str]:
    """API Gateway sends on whatever no route of its own takes."""
    return failed(NotFoundError("there is no such path"))


def failed(error: Exception) -> Response[str]:
    """Tell the caller what is the caller's business, and the log where anything else came from."""
    log_unexpected(logger, error)
    if isinstance(error, UnavailableError):
        logger.error("table unavailable", reasons=error.reasons)
    return response(error_answer(error, request_id(app.current_event.raw_event, app.lambda_context)))


app.not_found(other_paths)
app.exception_handler(Exception)(failed)


def _note(pending: Pending, **counts: int) -> None:
    logger.append_keys(event_id=pending.event.event_id)
    if pending.not_woken:
        logger.warning("delivery not woken: its timed run will find the event", reason=pending.not_woken)
    for name, value in {**counts, "DeliveryNotWoken": int(bool(pending.not_woken))}.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()
