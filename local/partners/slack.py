"""Slack's incoming webhooks: `POST /slack/services/T…/B…/…` takes a message and answers `ok`.

The three path segments are the credentials, so the journal shows the path without them; messages are read
back from the journal (`body`).
"""

from __future__ import annotations

import json

from local.partners.partner import TEXT, Answer, Call, Endpoint

PATH = "/slack/services"
MAX_MESSAGE_CHARACTERS = 40_000


class Slack:
    """The stub; it keeps nothing, as the journal keeps the messages."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the webhook receiver."""
        return (Endpoint("POST", PATH, frozenset(), self._receive, tail=True),)

    def expire_tokens(self) -> None:
        """Do nothing: a webhook's address does not expire."""

    def _receive(self, call: Call) -> Answer:
        segments = call.path.removeprefix(PATH).strip("/").split("/")
        if len(segments) != 3 or not all(segments):
            return Answer(404, b"no_service", TEXT, authorized=False)
        text = call.body.decode(errors="replace")
        try:
            message = json.loads(text)
        except ValueError:
            return Answer(400, b"invalid_payload", TEXT)
        if not isinstance(message, dict):
            return Answer(400, b"invalid_payload", TEXT)
        if not any(message.get(part) for part in ("text", "blocks", "attachments")):
            return Answer(400, b"no_text", TEXT)
        return Answer(200, b"ok", TEXT, message=text[:MAX_MESSAGE_CHARACTERS])
