"""What is posted to a webhook: the event as JSON, signed as Standard Webhooks has it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from include.delivery.event import Event


@dataclass(frozen=True)
class Letter:
    """One post.

    Args:
        body: JSON; the payload's text is the one that its owner sent, digit by digit.
        headers: with the signature.
    """

    body: bytes
    headers: dict[str, str] = field(repr=False)


def write_letter(event: Event, secret: str, now: float) -> Letter:
    """Write and sign a post; it has the event's id each time, so that a receiver knows a repetition.

    Args:
        event: what it tells of.
        secret: of the subscription.
        now: seconds since the epoch.

    Raises:
        ValueError: the secret is no base64, or empty.
    """
    parts = {
        "id": json.dumps(event.event_id),
        "type": json.dumps(event.event_type),
        "created_at": json.dumps(event.created_at),
        "payload": event.payload,
        "metadata": event.metadata or "null",
    }
    body = f"{{{','.join(f'"{name}":{text}' for name, text in parts.items())}}}"
    try:
        signature = Webhook(secret).sign(event.event_id, datetime.fromtimestamp(now, UTC), body)
    except (ValueError, EmptyWebhookSecretError) as error:
        # Not chained: the decoder's error may quote the secret.
        raise ValueError(f"the secret cannot be used ({type(error).__name__})") from None
    headers = {
        "Content-Type": "application/json",
        "Webhook-Id": event.event_id,
        "Webhook-Timestamp": str(int(now)),
        "Webhook-Signature": signature,
    }
    return Letter(body.encode(), headers)
