"""`orders-api`: POST /orders. The route's docstring is its summary and description in the OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import Metrics, MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common import environment
from lambdas.common.errors import MethodNotAllowedError, NotFoundError
from lambdas.common.http import error_response, json_response, log_unexpected, methods_but, request_id
from lambdas.orders_api.models import NotStoredError, parse, read_records, text_of
from lambdas.orders_api.store import CALL_SECONDS, OrderStore, dynamodb_client

TTL_SECONDS = 86_400
ANSWER_SECONDS = 1.0
"""Left for the answer when the time for storing is up."""

logger = Logger()
metrics = Metrics(namespace=environment.text("POWERTOOLS_METRICS_NAMESPACE"))
# Not what POWERTOOLS_DEV says: in debug mode the resolver prints whole events.
app = APIGatewayRestResolver(debug=False)
# Made while the function starts: there is more CPU then, and a warm call keeps the connections.
store = OrderStore(dynamodb_client(), environment.text("ORDERS_TABLE"))


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says.
@logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway; logs ids, counts and times."""
    started = time.perf_counter()
    logger.append_keys(request_id=request_id(event, context), subject=_subject(event))
    # The path as the API has it: a domain of one's own may put another one in front.
    answer = app.resolve({**event, "path": event.get("resource") or event["path"]}, context)
    logger.info("answered", status=answer["statusCode"], duration_ms=round((time.perf_counter() - started) * 1000, 1))
    return answer


@app.post("/orders")
def post_orders() -> Response[str]:
    """Store records

    Stores all of the records, or none when the status is below 500. A record that is sent again replaces the one
    before, so that any request may be repeated.
    """
    records = read_records(parse(text_of(app.current_event.raw_event)))
    logger.append_keys(records=len(records))
    ttl = int(time.time()) + TTL_SECONDS
    remaining = app.lambda_context.get_remaining_time_in_millis() / 1000
    try:
        store.put(records, ttl=ttl, seconds=remaining - CALL_SECONDS - ANSWER_SECONDS)
    except NotStoredError as error:
        _count(StoredRecords=error.stored, UnstoredRecords=len(error.not_stored))
        logger.error("records not stored", stored=error.stored, not_stored=len(error.not_stored), reasons=error.reasons)
        raise
    _count(StoredRecords=len(records))
    expires_at = datetime.fromtimestamp(ttl, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json_response(201, {"stored": len(records), "expires_at": expires_at})


@app.route("/orders", method=methods_but("POST"))
def other_methods() -> Response[str]:
    """API Gateway passes none of these on; a direct call of the function gets the same answer."""
    raise MethodNotAllowedError("POST")


def failed(error: Exception) -> Response[str]:
    """The error's own answer for the caller; where an unexpected one came from, for the log."""
    log_unexpected(logger, error)
    return error_response(error, request_id(app.current_event.raw_event, app.lambda_context))


# As above, for paths.
app.not_found(lambda _: failed(NotFoundError()))
app.exception_handler(Exception)(failed)


def _count(**values: int) -> None:
    for name, value in values.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()


def _subject(event: Mapping[str, Any]) -> str | None:
    """Whom the authorizer let in."""
    gateway: Mapping[str, Any] = event.get("requestContext") or {}
    return (gateway.get("authorizer") or {}).get("sub")
