"""AWS calls that botocore writes, signs and reads, and aiohttp sends: a third of the CPU of boto3, and no threads.

boto3 also waits for an interim response (``Expect: 100-continue``) before it sends any body to S3.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import ssl
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
import certifi
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.utils import get_environ_proxies, percent_encode_sequence
from yarl import URL

from include.clients.aws import error_code, is_busy
from include.clients.connections import IDLE_SECONDS, EndingResponseHandler, in_one_piece, new_session, read_by
from include.errors import Backoff

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.model import OperationModel, Shape

_CREDENTIALS_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 100_000
_PAUSES = Backoff(first=0.2, longest=5.0)
_MOVED_STATUSES = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT})
_MOVED_CODES = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"})


@dataclass(frozen=True)
class _Place:
    """Where requests go: scheme, host and perhaps a path, and what they are signed for."""

    url: str
    host: str
    service: str
    region: str
    proxy: str | None


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Request:
    """What a signer reads and changes of ``botocore.awsrequest.AWSRequest``; its place is not in it at first."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    params: None = None
    context: dict[str, Any] = field(default_factory=dict)


class _Headers(dict[str, str]):
    """Headers by their lower names, each once: botocore's, which are those of e-mail, cost more than the signature."""

    def get_all(self, name: str) -> list[str]:
        """All values of a header."""
        return [self[name]]


class _LeanHeaders:
    def headers_to_sign(self, request: Any) -> Any:
        """All there are."""
        return _Headers({name.lower(): value for name, value in request.headers.items()})


class _Signer(_LeanHeaders, SigV4Auth): ...


class _S3Signer(_LeanHeaders, S3SigV4Auth): ...


class SignedClient:
    """The calls of one AWS service, for one event loop at a time; open as ``async with``.

    Errors are those of a boto3 client, so that :func:`include.clients.aws.aws_errors` translates them. Endpoint,
    region, time-outs and number of attempts are those of the boto3 client, and so are the connections that it keeps:
    more calls at once wait, as to open a connection with TLS takes more CPU than a call. Proxies and certificates come
    from the environment as botocore reads them. Of S3's operations it makes GetObject, HeadObject and PutObject, of
    those of DynamoDB all.

    Args:
        client: a boto3 client of the service; sends nothing but to learn a bucket's region.
        find_credentials: as ``boto3.Session.get_credentials``; called once a minute, so it should refresh what ends.
        verify: as for ``boto3.Session.client``.
        connector: makes what requests are sent by; takes the arguments of aiohttp's.
    """

    def __init__(
        self,
        client: Any,
        find_credentials: Callable[[], Credentials | None],
        *,
        verify: bool | str | None = None,
        connector: Callable[..., aiohttp.TCPConnector] = aiohttp.TCPConnector,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        meta = client.meta
        self._client = client
        self._service = meta.service_model
        self._config = meta.config
        self._attempts = (meta.config.retries or {}).get("total_max_attempts", 3)
        self._checking = create_serializer(self._service.resolved_protocol)
        self._trusting = create_serializer(self._service.resolved_protocol, include_validation=False)
        self._checked: set[tuple[str, ...]] = set()
        self._parser = create_parser(self._service.resolved_protocol)
        self._find_credentials = find_credentials
        self._credentials: Credentials | ReadOnlyCredentials | None = None
        self._credentials_until = 0.0
        self._verify = verify
        self._connector = connector
        self._sleep = sleep
        self._places: dict[str | None, _Place] = {}

    async def __aenter__(self) -> Self:
        self._preparing = asyncio.Lock()
        self._session = new_session(self._connect, {"User-Agent": self._config.user_agent})
        self._timeout = aiohttp.ClientTimeout(
            sock_connect=self._config.connect_timeout, sock_read=self._config.read_timeout
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """As a boto3 client does it: ``await s3.call("PutObject", Bucket=..., ...)``.

        Args:
            operation: its name in the API.
            parameters: those of boto3; a body is bytes. Their types are checked at the first call with such names, as
                it takes a tenth of a call.

        Returns:
            what boto3 returns; a body is read already, and kept in memory. DynamoDB's binary values may be in base64.

        Raises:
            botocore.exceptions.ClientError: the service answered with an error.
            botocore.exceptions.BotoCoreError: parameters or credentials cannot be used, or there was no answer.
        """
        model = self._service.operation_model(operation)
        kind = (operation, *parameters)
        if self._service.service_name == "dynamodb" and kind in self._checked:
            # Its JSON is what boto3 takes and returns, but for binary values, of which there are none here.
            answer_text = await self.call_json(operation, json.dumps(parameters, separators=(",", ":")).encode())
            found: dict[str, Any] = json.loads(answer_text)
            return found
        serializer = self._trusting if kind in self._checked and parameters.get("Key") != "" else self._checking
        request = serializer.serialize_to_request(parameters, model)
        self._checked.add(kind)
        body, headers, path = request["body"], request["headers"], request["url_path"]
        if model.http_checksum.get("requestAlgorithmMember"):
            # S3 wants a checksum of what is locked.
            headers["x-amz-checksum-crc32"] = b64encode(zlib.crc32(body).to_bytes(4)).decode()
        if (bucket := parameters.get("Bucket")) and model.http["requestUri"].startswith("/{Bucket}"):
            # botocore takes it out of the model as soon as a client has made such a call.
            path = path.removeprefix("/").partition("/")[2]
        path = f"/{path.removeprefix('/')}"
        if request["query_string"]:
            path += f"?{percent_encode_sequence(request['query_string'])}"
        answer = await self._answer(model, _Request(request["method"], path, headers, body), bucket)
        read = io.BytesIO(answer.body) if model.has_streaming_output else answer.body
        return self._parse(answer, read, model.output_shape)

    async def call_json(self, operation: str, document: bytes) -> bytes:
        """The same for a service that speaks JSON, from request to response, without building objects: quicker."""
        names = self._service.metadata
        headers = {
            "X-Amz-Target": f"{names['targetPrefix']}.{operation}",
            "Content-Type": f"application/x-amz-json-{names['jsonVersion']}",
        }
        model = self._service.operation_model(operation)
        return (await self._answer(model, _Request("POST", "/", headers, document), None)).body

    async def _answer(self, model: OperationModel, request: _Request, bucket: str | None) -> _Answer:
        """The answer to a request that is sent again while that may help."""
        attempt, moved = 1, False
        while True:
            failure: Exception
            try:
                place, credentials = await self._prepare(bucket)
                answer = await self._exchange(place, credentials, request)
                if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    return answer
                failure = self._error(answer, model)
            except _NO_ANSWER as error:
                failure = error
            if bucket and not moved and _is_moved(failure, request.method):
                moved = True
                await self._find_region(bucket)
                continue
            if attempt >= self._attempts or (isinstance(failure, ClientError) and not is_busy(failure)):
                raise failure
            await self._sleep(_PAUSES.seconds(attempt))
            attempt += 1

    async def _exchange(
        self, place: _Place, credentials: Credentials | ReadOnlyCredentials, asked: _Request
    ) -> _Answer:
        headers = {**asked.headers, "Host": place.host}
        request = _Request(asked.method, place.url + asked.url, headers, asked.body)
        sign = _S3Signer if self._service.service_name == "s3" else _Signer
        sign(credentials, place.service, place.region).add_auth(cast("AWSRequest", request))
        config, sending = self._config, len(asked.body) / _SLOWEST_BYTES_PER_SECOND
        seconds = config.connect_timeout + config.read_timeout + sending
        try:
            # Until the head of the answer: also a name server, and who takes no more bytes, may take too long.
            async with asyncio.timeout(seconds):
                answer = await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    data=in_one_piece(request.body) or None,
                    headers=request.headers,
                    proxy=place.proxy,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
            async with answer:
                return _Answer(answer.status, answer.headers, await answer.read())
        # Not chained: aiohttp's errors know the request's headers.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer(error, place.url) from None

    def _error(self, answer: _Answer, model: OperationModel) -> ClientError:
        parsed = self._parse(answer, answer.body, model.output_shape)
        shape = self._service.shape_for_error_code(parsed.get("Error", {}).get("Code"))
        if shape is not None:
            # Fields of this error alone, such as the item that a condition did not fit.
            parsed.update(self._parse(answer, answer.body, shape))
        return ClientError(cast("Any", parsed), model.name)

    def _parse(self, answer: _Answer, body: bytes | io.BytesIO, shape: Shape | None) -> dict[str, Any]:
        # A call without an output has no shape, which botocore's types do not know.
        parsed: dict[str, Any] = self._parser.parse(
            {"status_code": answer.status, "headers": answer.headers, "body": body}, cast("Shape", shape)
        )
        return parsed

    async def _prepare(self, bucket: str | None) -> tuple[_Place, Credentials | ReadOnlyCredentials]:
        """Place and credentials; in a thread if they have to be found, as botocore may ask others for them."""
        if bucket not in self._places or time.monotonic() >= self._credentials_until:
            async with self._preparing:
                if bucket not in self._places:
                    self._places[bucket] = await asyncio.to_thread(self._find_place, bucket)
                if time.monotonic() >= self._credentials_until:
                    found = await asyncio.to_thread(self._find_credentials)
                    self._credentials = found and await asyncio.to_thread(found.get_frozen_credentials)
                    self._credentials_until = time.monotonic() + _CREDENTIALS_SECONDS
        if self._credentials is None:
            raise NoCredentialsError
        return self._places[bucket], self._credentials

    def _find_place(self, bucket: str | None) -> _Place:
        meta = self._client.meta
        url, service, region = meta.endpoint_url, self._service.signing_name, meta.region_name
        if bucket is not None:
            url, service, region = _place_of_bucket(self._client, bucket)
        proxies = get_environ_proxies(url) if self._config.proxies is None else self._config.proxies
        proxy = proxies.get(url.partition(":")[0])
        parts = URL(url)
        host = str(parts.raw_host) if parts.is_default_port() else f"{parts.raw_host}:{parts.port}"
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
        return _Place(url.rstrip("/"), host, service, region, proxy)

    async def _find_region(self, bucket: str) -> None:
        """Let botocore find out where a bucket is; its client keeps in mind what it was told."""
        # Whoever may write objects need not be allowed to see the bucket.
        with contextlib.suppress(ClientError):
            await asyncio.to_thread(self._client.head_bucket, Bucket=bucket)
        self._places.pop(bucket, None)

    def _connect(self) -> aiohttp.TCPConnector:
        connector = self._connector(
            limit=self._config.max_pool_connections,
            keepalive_timeout=IDLE_SECONDS,
            ssl=aws_tls(self._verify) if self._client.meta.endpoint_url.startswith("https") else True,
        )
        read_by(connector, EndingResponseHandler)
        return connector


_NO_ANSWER = (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)


@functools.cache
def aws_tls(verify: bool | str | None = None) -> ssl.SSLContext:
    """TLS settings as botocore has them, ``verify`` as for its clients: loading the certificates costs some 20 ms."""
    where = os.environ.get("REQUESTS_CA_BUNDLE") if verify is None else verify
    if not isinstance(where, str):
        where = certifi.where()
    directory = Path(where).is_dir()
    context = ssl.create_default_context(cafile=None if directory else where, capath=where if directory else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


_ONE_AT_A_TIME = threading.Lock()


class _RequestSeen(Exception):  # noqa: N818 - no error
    """Ends a call of botocore before it is sent."""


def _place_of_bucket(client: Any, bucket: str) -> tuple[str, str, str]:
    """The URL of a bucket, and the service and region that its requests are signed for, as botocore writes them."""
    seen: list[Any] = []
    own = threading.get_ident()

    def note(request: Any, **_: Any) -> None:
        # Whoever else uses the client meanwhile wants an answer.
        if threading.get_ident() == own:
            seen.append(request)
            raise _RequestSeen

    # Handlers belong to the client, which several of these may share.
    with _ONE_AT_A_TIME:
        client.meta.events.register("before-send.s3.HeadBucket", note)
        try:
            client.head_bucket(Bucket=bucket)
        except _RequestSeen:
            pass
        finally:
            client.meta.events.unregister("before-send.s3.HeadBucket", note)
    authorization = seen[0].headers["Authorization"]
    # ... Credential=<key>/<day>/<region>/<service>/aws4_request, ...
    region, service = str(authorization).partition(",")[0].split("/")[-3:-1]
    return seen[0].url, service, region


def _is_moved(failure: Exception, method: str) -> bool:
    """Whether a bucket is in another region than its request was signed for or sent to."""
    if not isinstance(failure, ClientError):
        return False
    status = failure.response["ResponseMetadata"]["HTTPStatusCode"]
    # S3 refuses a HEAD of another region by status 400, which has no body to say why.
    refused_head = method == "HEAD" and status == HTTPStatus.BAD_REQUEST
    return status in _MOVED_STATUSES or error_code(failure) in _MOVED_CODES or refused_head


def _no_answer(error: Exception, url: str) -> BotoCoreError:
    """What botocore raises where aiohttp raised this."""
    # First: an error of a certificate is a ValueError as well.
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return SSLError(endpoint_url=url, error=error)
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError | ValueError):
        # Its address may hold a password.
        return ProxyConnectionError(proxy_url="of the environment")
    if isinstance(error, aiohttp.ClientConnectorError):
        return EndpointConnectionError(endpoint_url=url)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectTimeoutError(endpoint_url=url)
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(endpoint_url=url)
    return ConnectionClosedError(endpoint_url=url)
