"""The OpenAPI documents of the orders API and the events API, made from their code: routes, models, limits and errors.

Here is only what the code does not say: what each response means, and what API Gateway answers by itself.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lambdas.common.errors import ApiError, NotFoundError
from lambdas.common.http import MAX_FAULTS, error_response
from lambdas.events_api import errors as events_errors
from lambdas.events_api import models as events_models
from lambdas.events_api import requests as events_requests
from lambdas.events_api.models import event_view, page_view, receipt_view
from lambdas.orders_api import models as orders_models

Schema = Mapping[str, Any]

REQUEST_ID = "2f9a6b1c-6b1e-4a51-9a43-0d1b6c2f7e10"
"""Of the examples."""

HEADERS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
"""Of the responses of both APIs, by status."""

TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}


def functions(package: str) -> dict[str, ast.FunctionDef]:
    """The functions of an API's handler by name; read and not imported, for which it wants its environment."""
    source = (Path(__file__).parents[1] / package / "handler.py").read_text(encoding="utf-8")
    return {each.name: each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)}


# ---- pieces of both documents ---------------------------------------------------------------------------


def _document(title: str, description: str, output: str, url: str, **parts: Any) -> dict[str, Any]:
    variables = {"api": {"default": "api"}, "region": {"default": "us-east-1"}}
    server = {"url": url, "description": f"The output {output} of the application stack.", "variables": variables}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": "1.0.0",
            "description": description,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [server],
        **parts,
    }


def _operation(
    route: ast.FunctionDef, tag: str, responses: Mapping[int, Schema], errors: Iterable[int], **parts: Any
) -> dict[str, Any]:
    """A route's operation; name, summary and description are those of its function."""
    first, *rest = route.name.split("_")
    summary, _, description = (ast.get_docstring(route) or "").partition("\n\n")
    return {
        "operationId": first + "".join(map(str.title, rest)),
        "tags": [tag],
        "summary": summary,
        **({"description": " ".join(description.split())} if description else {}),
        **parts,
        "responses": {
            **{str(status): response for status, response in responses.items()},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(errors)},
        },
    }


def _object(**members: Schema) -> dict[str, Any]:
    """The schema of an object that has these members and no other."""
    return {"type": "object", "required": list(members), "additionalProperties": False, "properties": members}


def _array(items: Schema, *, most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "minItems": least, "maxItems": most, "items": items}


def _or_null(schema: Schema, description: str) -> dict[str, Any]:
    """The schema of a member that is always there, and null when it has no value."""
    return {**schema, "type": [schema["type"], "null"], "description": description}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: Schema, **more: Any) -> dict[str, Any]:
    """A JSON body, with its ``example`` or ``examples``."""
    return {"application/json": {"schema": schema, **more}}


def _response(description: str, schema: str, example: Any) -> dict[str, Any]:
    return {"description": description, "content": _content(_ref(schema), example=example)}


def _error_parts(
    descriptions: Mapping[int, str],
    errors: Iterable[Exception],
    details: Schema,
    gateway: Mapping[int, Mapping[str, Any]],
    gateway_schema: str = "Error",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of errors, and the response of each status with an example of each code that it can have.

    Args:
        descriptions: by status.
        errors: that the code raises, at least one of every class.
        details: schema of an error's details.
        gateway: bodies of API Gateway by status and name of the example.
        gateway_schema: of those bodies; if it is that of errors, the names are codes.
    """
    own: dict[int, dict[str, Any]] = {}
    for error in errors:
        answer = error_response(error, REQUEST_ID)
        body = json.loads(answer.body or "")
        own.setdefault(answer.status_code, {})[body["error"]["code"]] = {"value": body}
    responses: dict[str, Any] = {}
    for status, description in descriptions.items():
        names = (["Error"] if status in own else []) + ([gateway_schema] if status in gateway else [])
        schemas = [_ref(name) for name in dict.fromkeys(names)]
        given = {name: {"value": body} for name, body in gateway.get(status, {}).items()}
        responses[str(status)] = {
            "description": description,
            **({"headers": {HEADERS[status]: {"schema": TEXT}}} if status in HEADERS else {}),
            "content": _content(
                {"anyOf": schemas} if len(schemas) > 1 else schemas[0], examples={**own.get(status, {}), **given}
            ),
        }
    codes = {code for examples in own.values() for code in examples}
    if gateway_schema == "Error":
        codes.update(*gateway.values())
    request_id = {**TEXT, "description": "By which the logs find the request."}
    code = {**TEXT, "enum": sorted(codes)}
    return _object(error=_object(code=code, message=TEXT, details=details, request_id=request_id)), responses


def _raised(read: Callable[..., object], *arguments: Any) -> ApiError:
    """The error that the code raises for these arguments."""
    try:
        read(*arguments)
    except ApiError as error:
        return error
    raise AssertionError(f"{read} raised nothing")


# ---- the orders API -------------------------------------------------------------------------------------

ORDERS_GATEWAY = {
    400: ("bad_request", "the request was refused"),
    401: ("unauthorized", "a bearer token is required"),
    403: ("forbidden", "the token was not accepted"),
    429: ("throttled", "too many requests: try again later"),
    **dict.fromkeys((500, 502, 504), ("internal_error", "the request could not be processed")),
}
"""Code and message of what API Gateway answers by itself, as the template of the orders API has it."""

ORDERS_DESCRIPTIONS = {
    400: "The body is empty, or it is not JSON in UTF-8. Nothing was stored.",
    401: "The request has no Authorization header.",
    403: "The token is not valid: expired, not signed with the key, meant for another API, or no token at all. "
    "The answer is the same for every reason; the log of the authorizer has it.",
    413: f"The body has more than {orders_models.MAX_BODY_BYTES} bytes. 500 records of the longest texts fit in, also "
    "when each character is written as one \\uXXXX; send characters beyond U+FFFF as UTF-8. Nothing was stored.",
    422: "The body is JSON and breaks the schema, or two records have the same record_id, or an object gives a field "
    f"twice. `details` lists the first {MAX_FAULTS} faults; nothing was stored.",
    429: "The API gets more requests than it takes.",
    500: "The request failed. Sending it again does no harm.",
    502: "The function broke down; as 500.",
    503: "The table did not take all of the records: `details` says how many are stored and names the others. Sending "
    "all of them again does no harm. Without a Retry-After it will not help before the service is repaired.",
    504: "The function took too long; as 500.",
}


def orders_document() -> dict[str, Any]:
    """The OpenAPI document of the orders API."""
    records = _array(_ref("OrderRecord"), most=orders_models.MAX_RECORDS)
    count = {"type": "integer", "minimum": 0, "maximum": orders_models.MAX_RECORDS}
    expires_at = {**TIME, "description": "24 hours from now, in UTC."}
    fault = _object(
        index=_or_null({"type": "integer", "minimum": 0}, "Of the record, from 0; null when it is the body's own."),
        field=_or_null(TEXT, "Of the record, cut when it is long; null when the fault is the record's own."),
        message=TEXT,
    )
    stored_and_not = _object(
        stored={**count, "description": "Records that are known to be stored."},
        not_stored={
            **_array(TEXT, most=orders_models.MAX_RECORDS),
            "description": "The record_id of each other record. One may be stored all the same when the table's answer "
            "got lost.",
        },
    )
    details = {"anyOf": [_array(_ref("Fault"), most=MAX_FAULTS, least=0), _ref("StoredAndNot")]}
    gateway = {
        status: {code: {"error": {"code": code, "message": message, "details": [], "request_id": REQUEST_ID}}}
        for status, (code, message) in ORDERS_GATEWAY.items()
    }
    error, responses = _error_parts(ORDERS_DESCRIPTIONS, _orders_errors(), details, gateway)
    post = _operation(
        functions("orders_api")["post_orders"],
        "orders",
        {201: _response("All records are stored.", "Stored", {"stored": 1, "expires_at": "2026-03-02T09:30:00Z"})},
        ORDERS_DESCRIPTIONS,
        requestBody={
            "required": True,
            "content": _content(
                {**records, "description": "The record_id of each is unique among them."},
                example=[{"record_id": "unique_id_1", "parameter_1": "abc", "parameter_2": 2.1}],
            ),
        },
    )
    token = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Signed with HS256; exp, iat and sub are required, aud is orders-api. "
        "`python -m lambdas.tools.issue_token` makes one.",
    }
    return _document(
        "Orders API",
        "Takes order records and keeps them for 24 hours.",
        "OrdersApiUrl",
        "https://{api}.execute-api.{region}.amazonaws.com/prod",
        tags=[{"name": "orders", "description": "Records to be stored."}],
        security=[{"token": []}],
        paths={"/orders": {"post": post}},
        components={
            "securitySchemes": {"token": token},
            "schemas": {
                "OrderRecord": orders_models.OrderRecord.model_json_schema(),
                "Stored": _object(stored={**count, "minimum": 1}, expires_at=expires_at),
                "Fault": fault,
                "StoredAndNot": stored_and_not,
                "Error": error,
            },
            "responses": responses,
        },
    )


def _orders_errors() -> Iterator[ApiError]:
    """Errors as the code raises them on the document's route, at least one of every class."""

    def read(body: str) -> None:
        orders_models.read_records(orders_models.parse(orders_models.text_of({"body": body})))

    for body in (
        *("", '[{"record_id": "a",}]', '[{"record_id": "a b", "parameter_2": "2.1"}]'),
        " " * (orders_models.MAX_BODY_BYTES + 1),
    ):
        yield _raised(read, body)
    for stored, not_stored in ((0, ["unique_id_1"]), (475, ["unique_id_476", "unique_id_477"])):
        yield orders_models.NotStoredError(
            stored=stored, not_stored=not_stored, reasons=[], worth_repeating=bool(stored)
        )


# ---- the events API -------------------------------------------------------------------------------------

EVENTS_GATEWAY = {
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""What API Gateway answers by itself, in a form of its own."""

EVENTS_DESCRIPTIONS = {
    400: "The body is empty, or it is not JSON in UTF-8. Nothing was stored.",
    401: "The request has no API key.",
    403: "The API key is not valid: it is not one, was revoked, or there are two. The answer is the same for every "
    "reason; the log of the authorizer has it.",
    404: "The owner of the key has no such event.",
    409: "The idempotency_key has an event with another event_type, payload or metadata; or the id that the event "
    "would have is taken. Nothing was stored.",
    413: f"The body has more than {events_requests.MAX_BODY_BYTES} bytes, the payload more than "
    f"{events_models.MAX_PAYLOAD_BYTES}, or the metadata more than {events_models.MAX_METADATA_BYTES}. Nothing was "
    "stored.",
    422: f"The body or the query is not as it must be. `details` lists {MAX_FAULTS} faults at most; nothing was done.",
    429: "The API key has made too many requests within a minute, or all callers together more than the API takes.",
    500: "The request failed. Sending it again does no harm; an event that is posted again needs an idempotency_key.",
    503: "The events cannot be reached, or the key cannot be checked. Without a Retry-After it will not help to try "
    "again before the service is repaired.",
}

EXAMPLE_NEW = {
    "event_type": "order.created",
    "payload": {"order_id": "A-1", "total": 12.50},
    "metadata": {"source": "shop"},
    "idempotency_key": "order-A-1",
}
EXAMPLE_EVENT = events_models.Event(
    event_id="evt_4k2j9x0q7m1z",
    owner="shop",
    event_type="order.created",
    payload='{"order_id":"A-1","total":12.50}',
    metadata='{"source":"shop"}',
    idempotency_key="order-A-1",
    status=events_models.Status.PENDING,
    created_at="2026-03-02T09:30:00.000Z",
    delivery_attempts=1,
    next_attempt_at="2026-03-02T09:30:02.140Z",
    last_status=503,
    last_error="503 Service Unavailable",
    first_failed_at="2026-03-02T09:30:01.020Z",
    attempts='[{"time":"2026-03-02T09:30:00.810Z","status":503,"milliseconds":210,"cause":"503 Service Unavailable"}]',
)

EVENT_ID = {"type": "string", "pattern": "^evt_[a-z0-9]{12}$"}
STATUS = {"type": "string", "enum": list(events_models.Status)}

NOT_DOCUMENTED = {"/openapi.json", "/docs"}
"""Routes that serve the document itself."""

_ALWAYS = (429, 500, 503)
_WITH_KEY = (401, 403, *_ALWAYS)
_OF_ONE_EVENT = (404, *_WITH_KEY)


def events_document() -> dict[str, Any]:
    """The OpenAPI document of the events API."""
    gateway = {status: {"api_gateway": {"message": message}} for status, message in EVENTS_GATEWAY.items()}
    faults = _array(_ref("Fault"), most=MAX_FAULTS, least=0)
    error, responses = _error_parts(EVENTS_DESCRIPTIONS, _events_errors(), faults, gateway, "GatewayError")
    bearer = "`Authorization: Bearer sk_…`. `python -m lambdas.tools.api_keys create` makes a key."
    return _document(
        "Events API",
        "Takes events, keeps them, and delivers them to the webhook of their owner. Listings may be a second behind; "
        "what is read by its id is not.",
        "EventsApiUrl",
        "https://{api}.execute-api.{region}.amazonaws.com",
        tags=[
            {"name": "events", "description": "Events and their delivery."},
            {"name": "webhooks", "description": "What the API posts to a webhook."},
            {"name": "service", "description": "The API itself."},
        ],
        webhooks={"event": {"post": _webhook()}},
        security=[{"bearer": []}, {"header": []}],
        paths=_events_paths(),
        components={
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": bearer},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
            },
            "schemas": {**_events_schemas(), "Error": error},
            "responses": responses,
        },
    )


def _events_paths() -> dict[str, dict[str, Any]]:
    operations, paths = _events_operations(), dict[str, dict[str, Any]]()
    example = EXAMPLE_EVENT.event_id
    event_id = {"name": "event_id", "in": "path", "required": True, "schema": EVENT_ID, "example": example}
    for name, act in functions("events_api").items():
        match act.decorator_list:
            case [ast.Call(args=[ast.Constant(str(method)), ast.Constant(str(path))])] if path not in NOT_DOCUMENTED:
                of_path = {"parameters": [event_id]} if "<event_id>" in path else {}
                item = paths.setdefault(path.replace("<", "{").replace(">", "}"), of_path)
                item[method.lower()] = _operation(act, **operations[name])
    return paths


def _events_operations() -> dict[str, dict[str, Any]]:
    """Of each route's function: tag, responses, statuses of errors, and what else its operation has."""
    example, page = json.loads(event_view(EXAMPLE_EVENT)), json.loads(page_view([EXAMPLE_EVENT], None))
    health = {"status": "ok", "message": "Triggers API is healthy", "version": "1.0.0", "environment": "dev"}
    body = {"required": True, "content": _content(_ref("NewEvent"), example=EXAMPLE_NEW)}
    filters: dict[str, Schema] = {
        "status": STATUS,
        "event_type": {**TEXT, "pattern": f"^{events_models.EVENT_TYPE.pattern}$"},
        "since": {**TIME, "description": "Only events that were created then or later."},
        "until": {**TIME, "description": "Only events that were created before. Later than `since`."},
    }
    paging = {
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": events_requests.MAX_LIMIT,
            "default": events_requests.DEFAULT_LIMIT,
        },
        "cursor": {**TEXT, "description": "As the page before gave it, for the same parameters and the same owner."},
    }

    def operation(responses: Mapping[int, Schema], *errors: int, **parts: Any) -> dict[str, Any]:
        return {"tag": "events", "responses": responses, "errors": errors, **parts}

    def receipt(description: str, message: str) -> dict[str, Any]:
        return _response(description, "Receipt", json.loads(receipt_view(EXAMPLE_EVENT, message)))

    def listing(**filters: Schema) -> dict[str, Any]:
        parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in {**filters, **paging}.items()]
        return operation({200: _response("A page of them.", "Page", page)}, 422, *_WITH_KEY, parameters=parameters)

    stored = receipt("The event is stored.", "the event is stored and waits for its delivery")
    known = receipt(
        "The idempotency key has an event already: this one. Nothing was stored.",
        "the idempotency key has this event already",
    )
    pending = receipt("It is pending again.", "the event waits for its delivery again")
    return {
        "get_health": operation({200: _response("It does.", "Health", health)}, *_ALWAYS, tag="service", security=[]),
        "post_event": operation({201: stored, 200: known}, 400, 409, 413, 422, *_WITH_KEY, requestBody=body),
        "list_events": listing(**filters),
        "list_inbox": listing(),
        "get_event": operation({200: _response("The event as it is now.", "Event", example)}, *_OF_ONE_EVENT),
        "delete_event": operation({204: {"description": "It is deleted."}}, *_OF_ONE_EVENT),
        "acknowledge_event": operation({204: {"description": "It is acknowledged."}}, *_OF_ONE_EVENT),
        "replay_event": operation({202: pending}, *_OF_ONE_EVENT),
    }


def _webhook() -> dict[str, Any]:
    """What the delivery posts to a webhook."""
    event = json.loads(event_view(EXAMPLE_EVENT))
    example = {
        "id": event["event_id"],
        "type": event["event_type"],
        **{name: event[name] for name in ("created_at", "payload", "metadata")},
    }
    headers = {
        "Webhook-Id": "The event's id; the same however often it is posted.",
        "Webhook-Timestamp": "Seconds since the epoch.",
        "Webhook-Signature": "`v1,` and base64 of HMAC-SHA256 over id, timestamp and body, joined by dots; by the "
        "Standard Webhooks scheme, with the secret of the subscription. For a day after that was replaced, a blank "
        "and a second one follow, with the secret before.",
    }
    return {
        "operationId": "receiveEvent",
        "tags": ["webhooks"],
        "summary": "An event is delivered",
        "description": "Posted to the webhook of the event's owner, the owner's events in the order of their creation. "
        "An event may arrive more than once.",
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": TEXT, "description": description}
            for name, description in headers.items()
        ],
        "requestBody": {"required": True, "content": _content(_ref("Delivery"), example=example)},
        "responses": {
            "2XX": {"description": "Within ten seconds: the event is delivered."},
            "410": {"description": "The subscription is turned off."},
            "default": {
                "description": "The event is posted again later; a Retry-After of a 429 or 503 is honoured up to a day."
            },
        },
    }


def _events_schemas() -> dict[str, Any]:
    last_status = {"type": ["integer", "string", "null"], "description": "HTTP status of the last attempt."}
    attempts = {"type": "integer", "minimum": 0, "description": "Since it was created or replayed."}
    payload = {"type": "object", "minProperties": 1, "description": "As it was posted: numbers digit by digit."}
    page = _array(_ref("Event"), most=events_requests.MAX_LIMIT, least=0)
    return {
        "NewEvent": events_models.NewEvent.model_json_schema(),
        "Event": _object(
            event_id=EVENT_ID,
            event_type=TEXT,
            status=STATUS,
            created_at=TIME,
            idempotency_key=_or_null(TEXT, "As it was posted."),
            delivery_attempts=attempts,
            next_attempt_at=_or_null(TIME, "Only of pending events."),
            last_status=last_status,
            last_error=_or_null(TEXT, "Why the last attempt failed."),
            first_failed_at=_or_null(TIME, "When an attempt failed for the first time."),
            delivered_at=_or_null(TIME, "When the webhook accepted it."),
            failed_at=_or_null(TIME, "When the last attempt failed."),
            acknowledged_at=_or_null(TIME, "When it was first acknowledged."),
            attempts={
                **_array(_ref("Attempt"), most=10, least=0),
                "description": "The last ten posts to the webhook, oldest first, also those before it was replayed.",
            },
            payload=payload,
            metadata=_or_null({"type": "object"}, "As it was posted."),
        ),
        "Attempt": _object(
            time=TIME,
            status=_or_null({"type": "integer"}, "HTTP status; null when there was no answer."),
            milliseconds={"type": "integer", "minimum": 0},
            cause=_or_null(TEXT, "Why it failed; null when the webhook accepted the event."),
        ),
        "Delivery": _object(
            id={**EVENT_ID, "description": "As in the header Webhook-Id."},
            type=TEXT,
            created_at=TIME,
            payload=payload,
            metadata=_or_null({"type": "object"}, "As it was posted."),
        ),
        "Page": _object(
            events={**page, "description": "At most `limit`; fewer, or none, when events are large or few match."},
            next_cursor=_or_null(TEXT, "Of the next page; null when there is none."),
        ),
        "Receipt": _object(event_id=EVENT_ID, status=STATUS, created_at=TIME, message=TEXT),
        "Health": _object(status={**TEXT, "enum": ["ok"]}, message=TEXT, version=TEXT, environment=TEXT),
        "Fault": _object(
            field=_or_null(TEXT, "Of the body, or parameter of the query; cut when it is long; null: the body itself."),
            message=TEXT,
        ),
        "GatewayError": _object(message=TEXT),
    }


def _events_errors() -> Iterator[Exception]:
    """Errors as the code raises them on the document's routes, at least one of every class."""
    wrong = '{"event_type": "Order", "payload": {}, "extra": 1}'
    for body in ("", '{"event_type": "a",}', wrong, " " * (events_requests.MAX_BODY_BYTES + 1)):
        yield _raised(events_requests.read_new_event, {"body": body})
    yield from (events_errors.KeyMissingError(), events_errors.KeyRefusedError(), NotFoundError())
    yield from (events_errors.ThrottledError(), events_errors.NoSuchEventError(), events_errors.EventIdTakenError())
    yield from (events_errors.IdempotencyKeyReusedError(), Exception())
    yield from (events_errors.KeyUncheckedError(), events_errors.StoreUnavailableError("", worth_repeating=True))
