"""The two wires by which alerts leave: botocore's HTTP session (SNS) and urllib (Slack)."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl
from urllib.request import Request

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError

TOPIC = "arn:aws:sns:us-east-1:000000000000:alerts"
SLACK_PATH = "T000/B000/pl4nted-webhook"

ENVIRONMENT = {
    "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
        {
            "conn_type": "aws",
            "login": "test",
            "password": "test",
            "extra": {"region_name": "us-east-1", "endpoint_url": "http://aws.test"},
        }
    ),
    "AIRFLOW_CONN_SLACK_ALERTS": json.dumps(
        {"conn_type": "slackwebhook", "host": "https://slack.test/services", "password": SLACK_PATH}
    ),
}
"""Connections that lead to the wires."""


class _Raw(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


class _Answer(io.BytesIO):
    """What urlopen returns."""

    status = code = 200
    headers = Message()

    def getcode(self) -> int:
        return self.code


@dataclass
class Wire:
    """What went out, and which wire is cut.

    ``sns_timeouts`` are the seconds to connect and to read, by attempt. ``slack_retry_after`` are what Slack asks to
    wait, one refused message after the other, before it takes one. ``slack_refusal`` is status and body of a refusal.
    Slack answers when ``slack_waits_for`` is set, if there is such an event; ``slack_says`` is the body of its 200.
    """

    sns: list[dict[str, str]] = field(default_factory=list)
    slack: list[dict[str, Any]] = field(default_factory=list)
    slack_urls: list[str] = field(default_factory=list)
    sns_attempts: int = 0
    sns_timeouts: list[tuple[float, float]] = field(default_factory=list)
    sns_is_down: bool = False
    slack_is_down: bool = False
    slack_retry_after: list[str] = field(default_factory=list)
    slack_refusal: tuple[int, str] | None = None
    slack_waits_for: threading.Event | None = None
    slack_says: bytes = b"ok"

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:

        def send(session: Any, request: AWSPreparedRequest) -> AWSResponse:
            # A function, unlike a method of ours, is given the session whose method it becomes.
            return self._send_aws(session, request)

        monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
        monkeypatch.setattr("slack_sdk.webhook.client.urlopen", self._open_slack)
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        # What is down here stays down: no use in botocore's waits.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *arguments: 0)

    def _send_aws(self, session: Any, request: AWSPreparedRequest) -> AWSResponse:
        self.sns_attempts += 1
        self.sns_timeouts.append((session._timeout.connect_timeout, session._timeout.read_timeout))
        if self.sns_is_down:
            raise EndpointConnectionError(endpoint_url=request.url)
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        form = dict(parse_qsl(body))
        assert form["Action"] == "Publish", form
        self.sns.append(form)
        answer = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
        return AWSResponse(request.url, 200, {}, _Raw(answer))

    def _open_slack(self, request: Request, **options: Any) -> _Answer:
        if self.slack_waits_for is not None:
            self.slack_waits_for.wait(60)
        if self.slack_is_down:
            raise URLError(socket.gaierror(-2, "Name or service not known"))
        if self.slack_refusal is not None:
            status, words = self.slack_refusal
            raise HTTPError(request.full_url, status, "refused", Message(), io.BytesIO(words.encode()))
        if self.slack_retry_after:
            headers = Message()
            headers["Retry-After"] = self.slack_retry_after.pop(0)
            raise HTTPError(request.full_url, 429, "too many", headers, io.BytesIO(b"rate_limited"))
        assert isinstance(request.data, bytes)
        self.slack_urls.append(request.full_url)
        self.slack.append(json.loads(request.data))
        return _Answer(self.slack_says)
