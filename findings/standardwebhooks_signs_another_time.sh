#!/usr/bin/env bash
# standardwebhooks 1.1.0: a webhook signed with the right time of a zone other than UTC is refused by its own library.
#
# Webhook.sign takes a datetime and puts UTC in the place of its zone, without converting: 09:00 in New York is signed
# as 09:00 UTC. The timestamp that is sent beside it is the true one, so the receiver computes another signature and
# refuses the message. A naive datetime.now() works on AWS, where clocks are in UTC, and not on a laptop. And a secret
# in the URL-safe alphabet, which secrets.token_urlsafe makes, is accepted with its "-" and "_" left out: the key is
# shorter than the one that any strict reader of the same secret gets.
#
# Seen: one moment as a datetime in UTC: verified; in New York: "No matching signature found". A key of 24 bytes signs
# as its standard text does, and its URL-safe text signs otherwise.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check standardwebhooks==1.1.0 tzdata==2026.1

"$work/venv/bin/python" -W ignore - <<'PY'
import base64
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

key = bytes(range(100, 124))
webhook = Webhook("whsec_" + base64.b64encode(key).decode())
now = datetime.now(timezone.utc)


def received(signed_at):
    """What a receiver says to a message that was sent now."""
    signature = webhook.sign("msg_1", signed_at, "{}")
    sent = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    try:
        return webhook.verify("{}", sent)
    except WebhookVerificationError as error:
        return str(error)


utc, new_york = received(now), received(now.astimezone(ZoneInfo("America/New_York")))

key = bytes([251, 239, 190, *range(100, 121)])
standard, url_safe = (
    Webhook("whsec_" + encode(key).decode()).sign("msg_1", now, "{}")
    for encode in (base64.b64encode, base64.urlsafe_b64encode)
)
by_key = Webhook(key).sign("msg_1", now, "{}")
print("UTC:", utc, "New York:", new_york, "signed by:", {"key": by_key, "standard": standard, "URL-safe": url_safe})
assert now == now.astimezone(ZoneInfo("America/New_York"))
assert (utc, new_york) == ({}, "No matching signature found")
assert standard == by_key != url_safe
PY
