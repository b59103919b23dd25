"""What the routes of the page share: guards, answers with their time limit and ETag, downloads."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.sdk.configuration import conf
from fastapi import Depends, HTTPException, Query, Request, Response

from airflow_ext.operations.reading import MOST_SECONDS, Reads, Source
from airflow_ext.outside import outside
from include.errors import InvalidInputError, PipelineError
from include.text import indented_json, json_text

Cursor = Annotated[int, Query(ge=0)]
"""Where a page of a list begins."""

MOST_SHOWN = 2 * 1024 * 1024
"""Bytes of a body that is shown; a longer one is for downloading."""

_MOST_EXACT = 2**53 - 1
"""Of whole numbers, which are all the same kind in a browser."""
_LONG = re.compile(rb"[0-9]{16}")

_THREADS = ThreadPoolExecutor(8, thread_name_prefix="operations")
"""Of its own: requests that wait for AWS must not take the threads of Airflow's API."""


def metadata(dag_id: str) -> Any:
    """Guard of a route without payloads: GET on the runs of the DAG."""
    return Depends(requires_access_dag("GET", DagAccessEntity.RUN, dag_id))


def bodies(dag_id: str, event: str) -> Sequence[Any]:
    """Guard of a route with payloads: GET on the DAG's XComs too, and a line in Airflow's audit log.

    The line has the name ``event``, the user, and the path's and query's parameters.
    """
    guard = Depends(requires_access_dag("GET", DagAccessEntity.XCOM, dag_id))
    # Airflow has no public way to write its audit log; its own routes use this. test_app.py notices if it goes.
    return [metadata(dag_id), guard, Depends(action_logging(event))]


def changes(dag_id: str, event: str) -> Sequence[Any]:
    """Guard of a route that changes something: POST on the DAG's runs, unless the page is read-only; audited too."""
    guard = Depends(requires_access_dag("POST", DagAccessEntity.RUN, dag_id))
    return [guard, Depends(_not_read_only), Depends(action_logging(event))]


def actions_allowed() -> bool:
    """Option ``pipelines.operations_actions``: False makes the page read-only."""
    return bool(conf.getboolean("pipelines", "operations_actions", fallback=True))


def _not_read_only(request: Request) -> None:
    if not actions_allowed():
        raise HTTPException(HTTPStatus.FORBIDDEN, "option pipelines.operations_actions is off: this page only shows")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        # What a form of another site can send is none of this type.
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")


def answers[Read: Callable[..., dict[str, Any]]](
    add: Callable[[Any], object], *, keep: bool = True
) -> Callable[[Read], Read]:
    """Make a function a route, which answers with what it returns, ``strips`` (what failed) and ``left_out``.

    The function takes :class:`Reads`, and then the parameters of the route, which is added by such as
    ``router.get("/name")``; it is called in a thread. Its answer is kept for 30 s, if nothing failed or was left out,
    but not used for a request that says ``Cache-Control: no-cache``; ``keep`` is False for payloads.
    """
    return lambda read: _added(add, read, partial(_answer, keep=keep))


def downloads[Read: Callable[..., tuple[bytes, str]]](add: Callable[[Any], object]) -> Callable[[Read], Read]:
    """The same for a file that the browser saves, whatever it holds: of its bytes and its name, ASCII without quotes.

    It may last longer than an answer, and is never a part of the file.
    """
    return lambda read: _added(add, read, _download)


def _added[Read: Callable[..., Any]](
    add: Callable[[Any], object], read: Read, respond: Callable[[Request, Callable[[Reads], Any]], Awaitable[Response]]
) -> Read:
    async def route(request: Request, **parameters: Any) -> Response:
        return await respond(request, partial(read, **parameters))

    known = inspect.signature(read, eval_str=True)
    first, *others = known.parameters.values()
    request = first.replace(name="request", annotation=Request)
    route.__signature__ = known.replace(  # type: ignore[attr-defined] # what FastAPI reads
        parameters=[request, *others], return_annotation=Response
    )
    add(route)
    return read


async def _answer(request: Request, read: Callable[[Reads], dict[str, Any]], *, keep: bool) -> Response:
    source: Source = request.app.state.source
    key = f"{request.url.path}?{request.url.query}"
    kept = None if "no-cache" in request.headers.get("cache-control", "") else source.answers.get(key)
    if kept is not None:
        return tagged(request, kept, "application/json", calls=0)
    reads = Reads(source)
    work = asyncio.get_running_loop().run_in_executor(_THREADS, lambda: reads.attempt(lambda: read(reads)))
    found = None
    try:
        found = await outside.within(work, MOST_SECONDS)
    except TimeoutError:
        reads.strips.append(f"no answer within {MOST_SECONDS:.0f} s: AWS is slow or cannot be reached; try again")
    body = to_json({**(found or {}), "strips": reads.strips, "left_out": reads.left_out})
    if keep and not reads.strips and not reads.left_out:
        source.answers.put(key, body)
    return tagged(request, body, "application/json", calls=reads.calls)


def tagged(request: Request, body: bytes, media_type: str, *, calls: int = 0) -> Response:
    """The body with its ETag, or 304 if the browser has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # The browser asks again each time, and mostly gets 304: what a user may see can change at any time.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "X-AWS-Calls": str(calls)}
    headers["X-Content-Type-Options"] = "nosniff"
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


async def _download(request: Request, read: Callable[[Reads], tuple[bytes, str]]) -> Response:
    from botocore.exceptions import BotoCoreError, ClientError

    reads = Reads(request.app.state.source, limited=False)
    try:
        body, name = await asyncio.get_running_loop().run_in_executor(_THREADS, read, reads)
    except InvalidInputError as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
    except (PipelineError, BotoCoreError, ClientError) as error:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
    if missing := [*reads.strips, *reads.left_out]:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"not all could be read: {'; '.join(missing)}")
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(body, media_type="application/octet-stream", headers=headers)


def get(reads: Reads, what: str, **which: str) -> Any:
    """An object of S3, by the arguments of GetObject; a 404 says that there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        return reads.aws("s3").get_object(**which)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (400, 404, 405):
            raise HTTPException(404, f"there is no {what}") from None
        raise


def shown(found: Any) -> dict[str, Any]:
    """The body of an object of S3 as text, as it is and indented."""
    text, size = json_text(found["Body"].read(MOST_SHOWN), "replace"), found["ContentLength"]
    return {"text": text, "pretty": indented_json(text), "bytes": size, "cut": size > MOST_SHOWN}


def to_json(document: object) -> bytes:
    """JSON that a browser reads as it is meant: as text NaN and infinities, which it refuses, and whole numbers that it
    would round; half surrogate pairs escaped.
    """
    try:
        body = json.dumps(document, allow_nan=False, default=str).encode("ascii")
    except ValueError:
        body = None
    if body is None or _LONG.search(body):
        body = json.dumps(_readable(document), default=str).encode("ascii")
    return body


def _readable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) > _MOST_EXACT:
        return str(value)
    if isinstance(value, dict):
        return {str(name): _readable(each) for name, each in value.items()}
    return [_readable(each) for each in value] if isinstance(value, list | tuple) else value
