"""The DEX API (spec: archive): `POST /oauth2/token` and `GET /data-exchange/trigger`.

The same question gets the same bytes in every process. About one client in eight has nothing to report and
answers `[]`; the control's `revision` changes the content of all the others.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from random import Random
from urllib.parse import parse_qsl
from zlib import crc32

from local.partners.calls import Answer, Call, Endpoint, Tokens, error_answer, json_answer, same_secret
from local.partners.control import Control

TOKEN_PATH = "/oauth2/token"
TRIGGER_PATH = "/data-exchange/trigger"
SCOPE = "dex/trigger:all"
TOKEN_PREFIX = "dex-stub-token-"
"""Tokens begin with this, so that one that leaked into a log is recognised."""
CLIENT_ID_PATTERN = re.compile(r"[1-9][0-9]{0,17}")
DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_TYPES = (
    ("METER_READING_RECEIVED", "kWh"),
    ("IMBALANCE_NOTICE", "MWh"),
    ("SCHEDULE_CONFIRMED", "MW"),
    ("PRICE_FORECAST_PUBLISHED", "EUR/MWh"),
    ("CAPACITY_ALERT", "MW"),
    ("DATASET_DELIVERED", "records"),
)
_SITES = tuple(
    json.dumps(name, ensure_ascii=False)
    for name in ("Zürich Nord", 'Bay 12 "East"', "Łódź Południe", "Corpus Christi", "Saint-Étienne", "Narvik")
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one client that the token endpoint knows."""

    client_id: str
    client_secret: str = field(repr=False)


def credentials_from_environment(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Read DEX_CLIENT_ID and DEX_CLIENT_SECRET; raises ValueError naming the variable that is missing."""
    for name in ("DEX_CLIENT_ID", "DEX_CLIENT_SECRET"):
        if not environ.get(name):
            raise ValueError(
                f"{name} is not set: the partner stubs check the token request against DEX_CLIENT_ID and "
                "DEX_CLIENT_SECRET, so set both in the environment of the stubs"
            )
    return Credentials(environ["DEX_CLIENT_ID"], environ["DEX_CLIENT_SECRET"])


class Dex:
    """The stub; tokens live in memory, `clock` counts seconds for their expiry."""

    def __init__(self, control: Control, credentials: Callable[[], Credentials], *, clock: Callable[[], float]) -> None:
        self._control = control
        self._credentials = credentials
        self.tokens = Tokens("dex", clock)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the token endpoint and the trigger endpoint."""
        return (
            Endpoint("POST", TOKEN_PATH, frozenset({"grant_type", "scope"}), self._issue),
            Endpoint("GET", TRIGGER_PATH, frozenset({"clientId", "triggerDate"}), self._trigger),
        )

    def _issue(self, call: Call) -> Answer:
        form = dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))
        if not call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return _refusal(400, "invalid_request", "send a form (application/x-www-form-urlencoded)")
        known = self._credentials()
        shown = (form.get("client_id", ""), form.get("client_secret", ""))
        if not (same_secret(shown[0], known.client_id) & same_secret(shown[1], known.client_secret)):
            return _refusal(401, "invalid_client", "unknown client_id or wrong client_secret")
        if form.get("grant_type") != "client_credentials":
            return _refusal(400, "unsupported_grant_type", "grant_type must be client_credentials", authorized=True)
        if form.get("scope", SCOPE) != SCOPE:
            return _refusal(400, "invalid_scope", f"scope must be {SCOPE}", authorized=True)
        token = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}"
        lifetime = self._control.document.token_expires_in
        self.tokens.add(token, lifetime)
        content = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "scope": SCOPE}
        return json_answer(200, content, headers=(("cache-control", "no-store"),))

    def _trigger(self, call: Call) -> Answer:
        asked, day_text = call.query.get("clientId", ""), call.query.get("triggerDate", "")
        client_id = asked if CLIENT_ID_PATTERN.fullmatch(asked) else None
        if refusal := self.tokens.refusal(call, client_id=client_id):
            return refusal
        if client_id is None:
            return error_answer(400, "clientId must be a positive whole number")
        day = _parsed_day(day_text)
        if day is None:
            return error_answer(400, "triggerDate must be a date, YYYY-MM-DD", client_id=client_id)
        return Answer(200, trigger_body(int(client_id), day, self._control.document.revision), client_id=client_id)


def has_nothing_to_report(client_id: int) -> bool:
    """Tell whether the client is one of those that answer `[]`, on every day and in every revision."""
    return crc32(b"client %d" % client_id) % 8 == 0


def trigger_body(client_id: int, day: date, revision: int = 0) -> bytes:
    """Return the JSON array that DEX answers for one client and day, UTF-8.

    Written by hand because byte-for-byte storage is what the archive is for: amounts such as 12.500 and
    characters that a JSON library would escape do not survive parsing and writing again.
    """
    if has_nothing_to_report(client_id):
        return b"[]"
    draw = Random(f"{client_id} {day} {revision}")
    records = []
    for number in range(1, draw.randint(1, 12) + 1):
        kind, unit = draw.choice(_TYPES)
        second = draw.randrange(86_400)
        at = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{draw.randrange(1000):03}Z"
        records.append(
            f'{{"triggerId":"{draw.getrandbits(128):032x}","sequence":{number},"clientId":{client_id},'
            f'"type":"{kind}","occurredAt":"{at}","site":{draw.choice(_SITES)},'
            f'"value":{draw.random() * 1000:.3f},"unit":"{unit}",'
            f'"acknowledged":{"true" if draw.random() < 0.8 else "false"},"correctionOf":null}}'
        )
    return f"[{',\n '.join(records)}]".encode()


def _refusal(status: int, code: str, description: str, *, authorized: bool = False) -> Answer:
    return json_answer(status, {"error": code, "error_description": description}, authorized=authorized)


def _parsed_day(text: str) -> date | None:
    if not DATE_PATTERN.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
