"""The partner stubs as one ASGI app on one port, all state in memory.

Run (DEX_CLIENT_ID and DEX_CLIENT_SECRET must be set, there is no default)::

    python -m uvicorn local.partners.app:app --host 127.0.0.1 --port 8200 \
        --log-level warning --no-access-log --timeout-keep-alive 75 --timeout-graceful-shutdown 2

Connections are kept for long, so that one that a caller left idle is still there when it is used again.

Partners: `POST /oauth2/token` and `GET /data-exchange/trigger` (module `dex`), `POST /call-details/login` and
`POST /call-details/batches` (module `call_details`; CALL_DETAILS_ACCESS_KEY and CALL_DETAILS_SECRET_KEY are its
keys), `POST /slack/services/…` and `POST /receivers/<name>` (module `receivers`). Beside them:

`GET /health`
    200 `{"status": "ok"}` when the stubs answer.

`PUT /control`, `GET /control`, `DELETE /control`
    Replace, show, and reset to the default what the partners do wrong. The document is
    `{"rules": [...], "latency_ms": 0, "token_expires_in": 3600, "revision": 0}`; what is left out takes these
    values, and `rules` none. The default document (at start and after DELETE) has one rule: the sample's
    BROKEN_CLIENT_ID gets an HTML page with status 200. What GET shows can be PUT again. An unknown field or
    a bad value is answered 422 with the field and what is allowed, and changes nothing.

    - `latency_ms` before every partner's answer; `token_expires_in` seconds, for tokens issued from now on;
      `revision` changes the content of the DEX answers that are not empty.
    - `rules`: the first rule that is for a call applies to it. A rule first says **which calls**:
      `path` (this path and those below it; default all partners), `match` (query or form values, and
      `idempotencyKey`, each a value or a list of values: `{"clientId": [1014, 1021]}`), `contains` (a text that
      must be in the request's body), `after` (let that many matching calls pass first),
      and at most one of `count` (the first n matching calls), `count_each` (the first n times of every
      question, that is of every distinct path with its values) and `share` (0 to 1 of the calls, drawn by
      a hash of question, attempt and `seed`, so that every run sees the same faults and a retry is drawn
      anew). Without any of the three it is for all matching calls.
    - Then **what happens**, at least one of: `latency_ms` (instead of the general one), `status`,
      `body` (text) or `body_base64`, `content_type`, `headers` (added or replaced, such as Retry-After),
      `cut` (`"before"`: the connection closes without an answer; `"mid"`: after half of the body), `drip_ms`
      (the body byte by byte, with that pause), `expire_tokens` (all issued tokens become invalid before the
      call is looked at), `applied` (a batch whose call fails by `status` or `cut` is taken all the same;
      otherwise it is not. One that is only late is taken, even if its caller has given up). An error status
      without a body gets a JSON error; what a rule does not replace stays the partner's own.

`GET /journal?path=&since=&limit=`, `DELETE /journal`
    Read, or forget, what was received: `calls` (the newest `limit`, default 1000, numbered above `since`,
    at or below `path`, oldest first), `matched` (how many without the limit), `last` (the newest number),
    `counts` by path and status, `max_concurrent` by path. A call has `n`, `at` (its start), `method`, `path`,
    `query`, `status`, `end`, `duration_ms`, `authorized`, and where it applies `client_id`, `rule` (index)
    and `body` (Slack's message). `end` is `answered`, `cut before`, `cut mid`, `client left` (the caller hung
    up during a wait of a second or more) or `failed` (a fault of the stub itself); a call that was not
    answered is counted under it. The latest 200,000 calls are kept, in the order in which they ended.
    Credentials and tokens are never among them.

`GET /journal/call-details?batches=true`, `DELETE /journal/call-details`
    Read, or forget, the batches that were taken: see `CallDetails.received`.

`PUT /control/receivers`, `GET /control/receivers`, `DELETE /control/receivers`
    Add secrets by receiver's name (`{"acme": "whsec_…"}`), show whose are known, or forget them all.

`GET /journal/receivers?receiver=&since=`, `DELETE /journal/receivers`
    Read, or forget, what arrived at the receivers: see `Receivers.arrived`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from local.partners.call_details import CallDetails
from local.partners.calls import (
    DEFAULT_LIMIT,
    Answer,
    Endpoint,
    Entry,
    Journal,
    error_answer,
    read_call,
    shown_start,
)
from local.partners.control import ActiveRule, Control, End, InvalidControlError, Rule, altered, deliver
from local.partners.dex import Credentials, Dex, credentials_from_environment
from local.partners.receivers import SLACK, Receivers

RECEIVED_PATH = "/journal/call-details"
ARRIVALS_PATH = "/journal/receivers"
SECRETS_PATH = "/control/receivers"
MANAGEMENT_PATHS = frozenset({"/health", "/control", "/journal", RECEIVED_PATH, ARRIVALS_PATH, SECRETS_PATH})


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
        path = request.query_params.get("path", "/")
        numbers, problems = _query(request, "path", since=0, limit=DEFAULT_LIMIT)
        return _refused(problems) if problems else JSONResponse(journal.read(path=path, **numbers))

    async def show_received(request: Request) -> Response:
        _, problems = _query(request, "batches")
        wanted = request.query_params.get("batches", "false")
        if wanted not in ("true", "false"):
            problems.append(f"batches: must be true or false, not {wanted!r}")
        return _refused(problems) if problems else JSONResponse(calls.received(batches=wanted == "true"))

    async def show_secrets(_: Request) -> Response:
        return JSONResponse({"receivers": receivers.known()})

    async def put_secrets(request: Request) -> Response:
        try:
            problems = receivers.know(json.loads(await request.body()))
        except ValueError as error:
            problems = [f"document: not JSON ({error})"]
        return _refused(problems) if problems else await show_secrets(request)

    async def show_arrivals(request: Request) -> Response:
        receiver = request.query_params.get("receiver")
        numbers, problems = _query(request, "receiver", since=0)
        return _refused(problems) if problems else JSONResponse(receivers.arrived(receiver=receiver, **numbers))

    def forgetting(forget: Callable[[], None]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            forget()
            return Response(status_code=204)

        return answer

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/control", show_control, methods=["GET"]),
            Route("/control", put_control, methods=["PUT"]),
            Route("/control", reset_control, methods=["DELETE"]),
            Route("/journal", read_journal, methods=["GET"]),
            Route("/journal", forgetting(journal.clear), methods=["DELETE"]),
            Route(RECEIVED_PATH, show_received, methods=["GET"]),
            Route(RECEIVED_PATH, forgetting(calls.forget), methods=["DELETE"]),
            Route(SECRETS_PATH, show_secrets, methods=["GET"]),
            Route(SECRETS_PATH, put_secrets, methods=["PUT"]),
            Route(SECRETS_PATH, forgetting(receivers.forget_secrets), methods=["DELETE"]),
            Route(ARRIVALS_PATH, show_arrivals, methods=["GET"]),
            Route(ARRIVALS_PATH, forgetting(receivers.forget), methods=["DELETE"]),
        ]
    )


def _query(request: Request, *names: str, **numbers: int) -> tuple[dict[str, int], list[str]]:
    """The values of a request's parameters that are numbers, with their defaults, and what is wrong with any."""
    query, allowed = request.query_params, (*names, *numbers)
    problems = [f"{name}: unknown; allowed: {', '.join(allowed)}" for name in query if name not in allowed]
    for name, default in numbers.items():
        text = query.get(name, str(default))
        if text.isascii() and text.isdigit():
            numbers[name] = int(text)
        else:
            problems.append(f"{name}: must be a whole number, 0 or more, not {text!r}")
    return numbers, problems


def _refused(problems: list[str]) -> Response:
    return JSONResponse({"error": "Unprocessable Content", "problems": problems}, status_code=422)


class PartnerStubs:
    """The app: finds the endpoint for a call, applies the control's rules, and keeps the journal.

    `credentials` is first asked when the server starts, `clock` counts token lifetimes.
    """

    def __init__(
        self,
        credentials: Callable[[], Credentials] = credentials_from_environment,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._control = Control()
        calls = CallDetails(self._control, clock=clock)
        receivers = Receivers()
        dex = Dex(self._control, credentials, clock=clock)
        self._tokens = (dex.tokens, calls.tokens)
        self._endpoints = (*dex.endpoints(), SLACK, *calls.endpoints(), receivers.endpoint())
        self._control.paths = frozenset(each.path for each in self._endpoints)
        self._control.parameters = frozenset().union(*(each.parameters for each in self._endpoints))
        self._journal = Journal()
        self._management = management(self._control, self._journal, calls, receivers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] != "http":
            raise RuntimeError(f"the partner stubs serve HTTP only, not {scope['type']}")
        elif scope["path"] in MANAGEMENT_PATHS:
            await self._management(scope, receive, send)
        else:
            await self._partner_call(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._credentials()
        except ValueError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _partner_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        at, started = time.time(), time.perf_counter()
        method, path = scope["method"], scope["path"]
        candidates = [each for each in self._endpoints if each.serves(path)]
        shown_path = candidates[0].path if candidates else shown_start(path)
        status: int | None = None
        end: End = "failed"
        answer = Answer(0, b"", authorized=False)
        query: dict[str, str] = {}
        active: ActiveRule | None = None
        self._journal.enter(shown_path)
        try:
            endpoint = next((each for each in candidates if each.method == method), None)
            if endpoint is None:
                answer = self._no_endpoint(candidates)
            else:
                call = await read_call(endpoint, scope, receive)
                query = dict(call.query)
                active = self._control.choose(path, query, call.body)
                if active is not None and active.rule.expire_tokens:
                    for tokens in self._tokens:
                        tokens.expire()
                answer = endpoint.answer(call)
            rule = None if active is None else active.rule
            if answer.effect is not None and (rule is None or rule.applied or not rule.fails):
                answer.effect()
            if rule is not None:
                answer = altered(answer, rule)
            status, end = await deliver(answer, rule, self._delay_s(rule), receive, send)
        except ClientDisconnect:
            end = "client left"
        finally:
            self._journal.leave(shown_path)
            entry = Entry(
                at=at,
                method=method,
                path=shown_path,
                query=query,
                status=status,
                end=end,
                duration_ms=(time.perf_counter() - started) * 1000,
                authorized=answer.authorized,
                rule=None if active is None else active.index,
                client_id=answer.client_id,
                body=answer.message,
            )
            self._journal.record(entry)

    def _delay_s(self, rule: Rule | None) -> float:
        if rule is not None and rule.latency_ms is not None:
            return rule.latency_ms / 1000
        return self._control.document.latency_ms / 1000

    def _no_endpoint(self, candidates: list[Endpoint]) -> Answer:
        if candidates:
            allowed = ", ".join(each.method for each in candidates)
            return error_answer(405, f"use {allowed}", headers=(("allow", allowed),), authorized=False)
        served = ", ".join(sorted({*self._control.paths, *MANAGEMENT_PATHS}))
        return error_answer(404, f"no partner serves this path; served are {served}", authorized=False)


app = PartnerStubs()
