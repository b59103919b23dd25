"""An environment of the pipelines as the commands see it: its names, its AWS, its Airflow."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from include.clients.aws import error_code, is_busy
from ops.report import OpsError, printable

LOCAL = "local"
"""The environment of the local stack, which needs no account: its addresses are in ``stack.json``."""

STATE_DIRECTORY = Path(__file__).resolve().parents[1] / ".local"

_TIMEOUT_SECONDS = 30.0
_DONE = "it may have been done all the same: look in Airflow before you do it again"
_CONFIG = Config(connect_timeout=5, read_timeout=30)


@dataclass(frozen=True)
class Environment:
    """One environment.

    Args:
        name: ``local``, ``dev``, ``staging`` or ``prod``.
        session: a ``boto3.Session`` of this environment alone.
        endpoint_url: of every AWS service; None for AWS itself.
        stack: contents of ``stack.json``; empty on AWS.
        http: asks the local stack's Airflow.
    """

    name: str
    session: Any
    endpoint_url: str | None
    stack: Mapping[str, Any]
    http: httpx.Client

    @classmethod
    def open(cls, name: str, *, state_directory: Path = STATE_DIRECTORY) -> Environment:
        """The environment called ``name``.

        The local one gets credentials and an endpoint of its own, whatever the shell has: no command that is
        rehearsed there can reach an account.

        Raises:
            OpsError: it is the local one, and no stack runs.
        """
        # It asks the local stack alone, so no proxy or certificate of the shell plays a part, nor a faulty one.
        http = httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False)
        if name != LOCAL:
            with aws_errors("AWS"):
                return cls(name, boto3.Session(), None, {}, http)
        file = state_directory / "stack.json"
        try:
            stack: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            raise OpsError(
                "no local stack is running: start one with 'make up', or name another environment with --environment"
            ) from None
        # Nor does a profile or a proxy of the shell play a part, not even one that does not exist.
        own = botocore.session.Session(session_vars={"profile": (None, [], None, None)})
        own.set_default_client_config(Config(proxies={}))
        session = boto3.Session(
            botocore_session=own,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator takes any
            region_name=stack["region"],
        )
        return cls(name, session, stack["aws_endpoint_url"], stack, http)

    def aws(self, service: str, *, connections: int = 10, attempts: int = 3) -> Any:
        """A boto3 client for so many requests at once; OpsError if the shell's region, address or profile is wrong."""
        retries: Any = {"mode": "standard", "total_max_attempts": attempts}
        config = _CONFIG.merge(Config(max_pool_connections=connections, retries=retries))
        try:
            with aws_errors(service):
                return self.session.client(service, endpoint_url=self.endpoint_url, config=config)
        except ValueError as error:
            # Of a region or an address that is none; botocore has no class for it.
            raise OpsError(f"{service}: {error}; check AWS_DEFAULT_REGION and AWS_ENDPOINT_URL") from None

    def output(self, name: str) -> str:
        """An output of the application's stack, a name or an address; OpsError if there is no such stack or output."""
        found = self._described[0].get(name)
        if found is None:
            raise OpsError(f"stack pipelines-{self.name} has no output {name}: is it of this release? Deploy it again")
        return found

    def parameter(self, name: str, default: str) -> str:
        """A parameter of the application's stack, or what it is in a stack that has no such parameter."""
        return self._described[1].get(name, default)

    @functools.cached_property
    def _described(self) -> tuple[dict[str, str], dict[str, str]]:
        """Outputs and parameters of the application's stack."""
        with aws_errors("CloudFormation"):
            stack = self.aws("cloudformation").describe_stacks(StackName=f"pipelines-{self.name}")["Stacks"][0]
        outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}
        return outputs, {item["ParameterKey"]: item.get("ParameterValue", "") for item in stack.get("Parameters", [])}

    def log(self, group: str, *, hours: int) -> str:
        """Messages of a log group in the last hours, the oldest first."""
        begin = int((time.time() - 3600 * hours) * 1000)
        with aws_errors("CloudWatch Logs"):
            pages = self.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=group, startTime=begin)
            messages = [event["message"] for page in pages for event in page["events"]]
        return "\n".join(printable(line) for message in messages for line in message.rstrip().expandtabs().split("\n"))

    def airflow(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: object | None = None
    ) -> Any:
        """Airflow's answer to a call of its REST API: the path is below ``/api/v2``, the body a JSON document.

        Raises:
            OpsError: no answer, or a refusal; the message holds what Airflow said.
        """
        if self.name == LOCAL:
            headers = {"Authorization": f"Bearer {self._token}"}
            url = f"{self.stack['airflow_url']}/api/v2{path}"
            return self._ask(method, url, params=params, json=body, headers=headers)
        # MWAA gives up after ten seconds, and Airflow may have done it by then: a second call would start a second run.
        reads = method == "GET" or path.endswith("/list")
        with aws_errors("MWAA", once=not reads):
            answer = self.aws("mwaa", attempts=3 if reads else 1).invoke_rest_api(
                Name=f"pipelines-{self.name}",
                Path=path,
                Method=method,
                **({"QueryParameters": dict(params)} if params else {}),
                **({"Body": body} if body is not None else {}),
            )
        return answer.get("RestApiResponse")

    @functools.cached_property
    def _token(self) -> str:
        return str(self._ask("GET", self.stack["airflow_token_url"])["access_token"])

    def _ask(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = self.http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise OpsError(f"Airflow does not answer ({error}): see 'make status'") from None
        if not answer.is_success:
            raise _refused(answer.status_code, answer.text)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise OpsError(
                f"what answers at {answer.url.host}:{answer.url.port} is not Airflow: see 'make status'"
            ) from None


def _refused(status: int, text: str) -> OpsError:
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = text
    return OpsError(f"Airflow answered {status}: {str(detail)[:500]}", status=status)


@contextmanager
def aws_errors(service: str, *, once: bool = False) -> Iterator[None]:
    """Translate botocore's errors inside the block: every one becomes an OpsError that says what to do.

    ``once`` is True where a second call would do something twice.
    """
    try:
        yield
    except ClientError as error:
        found: Mapping[str, Any] = error.response
        again = _DONE if once else "try again in a minute"
        if "RestApiStatusCode" in found:
            refused = _refused(found["RestApiStatusCode"], json.dumps(found.get("RestApiResponse")))
            text = f"{refused}; {again}" if is_busy(error) else str(refused)
            raise OpsError(text, status=refused.status) from None
        code = error_code(error)
        if is_busy(error):
            advice = again
        elif "Expired" in code:
            advice = "log in again"
        elif "AccessDenied" in code:
            advice = "check AWS_PROFILE, and its rights (docs/RUNBOOK.md, First)"
        else:
            advice = "check --environment, AWS_PROFILE and AWS_DEFAULT_REGION"
        raise OpsError(f"{service}: {code}: {found['Error'].get('Message', '')}; {advice}") from None
    except (ConnectionError, HTTPClientError) as error:
        # Of the first kind are those that reached nobody.
        check = "check the network and AWS_DEFAULT_REGION; for the local stack see 'make status'"
        advice = _DONE if once and not isinstance(error, ConnectionError) else check
        raise OpsError(f"{service}: {error}; {advice}") from None
    except BotoCoreError as error:
        raise OpsError(f"{service}: {error}; check AWS_PROFILE and AWS_DEFAULT_REGION, and log in again") from None
