"""Webhooks: those of the Events API's users (spec: events), `POST /receivers/<name>`, for any name, and Slack's.

A post to a receiver whose secret is known must be signed as Standard Webhooks has it, otherwise it is answered 401; one
without a secret takes everything. What arrived is remembered in its order, also when a rule then spoils the answer.

Slack's, `POST /slack/services/T…/B…/…`, takes a message and answers `ok`. The three path segments are the credentials:
the journal shows the path without them, and the messages (`body`).
"""

from __future__ import annotations

import binascii
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from local.partners.calls import CAPACITY, TEXT, Answer, Call, Endpoint, error_answer, json_answer

PATH = "/receivers"


@dataclass(slots=True)
class Arrival:
    """One post: `n` counts those of all receivers, `at` is in seconds since the epoch.

    `verified` is None where no secret is known; `accepted` tells whether the receiver took it.
    """

    n: int
    receiver: str
    webhook_id: str
    timestamp: str
    at: float
    verified: bool | None
    accepted: bool = False


class Receivers:
    """The stub; secrets and arrivals live in memory, the oldest of these are dropped first."""

    def __init__(self) -> None:
        self._secrets: dict[str, Webhook] = {}
        self._arrivals: deque[Arrival] = deque(maxlen=CAPACITY)
        self._last = 0

    def endpoint(self) -> Endpoint:
        """Return what takes posts."""
        headers = {"webhook-id": "webhookId"}
        return Endpoint("POST", PATH, frozenset({"webhookId"}), self._take, tail=True, headers=headers)

    def know(self, secrets: object) -> list[str]:
        """Add secrets by receiver's name, parsed JSON; return what is wrong with them, and then nothing changes."""
        if not isinstance(secrets, dict):
            return ["document: must be an object of secrets by receiver's name"]
        problems, known = [], {}
        for name, secret in secrets.items():
            try:
                known[name] = Webhook(secret if isinstance(secret, str) else "")
            except (binascii.Error, EmptyWebhookSecretError, ValueError):
                problems.append(f"{name}: must be whsec_ and base64")
        if not problems:
            self._secrets |= known
        return problems

    def known(self) -> list[str]:
        """Return the names of the receivers whose secret is known."""
        return sorted(self._secrets)

    def forget_secrets(self) -> None:
        """Forget all secrets."""
        self._secrets.clear()

    def arrived(self, *, receiver: str | None, since: int) -> dict[str, Any]:
        """Return the arrivals numbered above `since`, of one receiver or of all, and the newest number."""
        found = [each for each in self._arrivals if each.n > since and receiver in (None, each.receiver)]
        return {"arrivals": [asdict(each) for each in found], "last": self._last}

    def forget(self) -> None:
        """Forget all arrivals; numbering goes on."""
        self._arrivals.clear()

    def _take(self, call: Call) -> Answer:
        name = call.path.removeprefix(PATH).strip("/")
        if not name or "/" in name:
            return error_answer(404, f"post to {PATH}/<name>", authorized=False)
        self._last += 1
        arrival = Arrival(
            n=self._last,
            receiver=name,
            webhook_id=call.headers.get("webhook-id", ""),
            timestamp=call.headers.get("webhook-timestamp", ""),
            at=time.time(),
            verified=self._verified(name, call.headers, call.body),
        )
        self._arrivals.append(arrival)
        if arrival.verified is False:
            return error_answer(401, "the signature does not fit", authorized=False)

        def accept() -> None:
            arrival.accepted = True

        return json_answer(200, {"received": arrival.n}, effect=accept)

    def _verified(self, name: str, headers: Mapping[str, str], body: bytes) -> bool | None:
        if name not in self._secrets:
            return None
        try:
            self._secrets[name].verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return False
        return True


SLACK_PATH = "/slack/services"
MAX_MESSAGE_CHARACTERS = 40_000


def _receive(call: Call) -> Answer:
    segments = call.path.removeprefix(SLACK_PATH).strip("/").split("/")
    if len(segments) != 3 or not all(segments):
        return Answer(404, b"no_service", TEXT, authorized=False)
    text = call.body.decode(errors="replace")
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        return Answer(400, b"invalid_payload", TEXT)
    if not any(message.get(part) for part in ("text", "blocks", "attachments")):
        return Answer(400, b"no_text", TEXT)
    return Answer(200, b"ok", TEXT, message=text[:MAX_MESSAGE_CHARACTERS])


SLACK = Endpoint("POST", SLACK_PATH, frozenset(), _receive, tail=True)
"""The stub of Slack; it keeps nothing, as the journal keeps the messages."""
