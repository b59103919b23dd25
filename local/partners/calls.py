"""Calls as they arrive: what of them stubs and journal get to see."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from local.partners.partner import Call, Endpoint

FORM = "application/x-www-form-urlencoded"


async def read_call(endpoint: Endpoint, scope: Scope, receive: Receive) -> Call:
    """Return the call with the values that the endpoint declares, from the query or the form."""
    headers = Headers(scope=scope)
    body = b"" if endpoint.method == "GET" else await Request(scope, receive).body()
    values = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if body and headers.get("content-type", "").startswith(FORM):
        values += parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
    query = {name: value for name, value in values if name in endpoint.parameters}
    query |= {name: headers[header] for header, name in endpoint.headers.items() if header in headers}
    return Call(scope["path"], query, headers, body)


def shown_start(path: str) -> str:
    """Shorten a path that nobody serves: what follows a mistyped start may be a webhook's tokens."""
    first = path.strip("/").partition("/")[0][:40]
    return f"/{first}/…" if first and first != path.strip("/") else f"/{first}"
