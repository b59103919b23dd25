"""boto3 clients of connection ``aws_default``, and what sessions of all AWS connections are made from."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, cast

from airflow_ext.ids import AWS_CONNECTION, METRICS_NAMESPACE
from airflow_ext.outside import outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config
    from botocore.loaders import Loader
    from botocore.session import Session
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

    from include.clients.signed import SignedClient

_TASK_SERVICES = ("s3", "lambda", "cloudwatch", "sns", "dynamodb", "sqs", "ssm", "secretsmanager")


class AwsSession:
    """Connection ``aws_default``, read once: what several clients of one task are made from (10 ms of CPU each less).

    Not to be kept for longer than a task: the connection may change.
    """

    @functools.cached_property
    def _hook(self) -> AwsBaseHook:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        return AwsBaseHook(aws_conn_id=AWS_CONNECTION)

    @functools.cached_property
    def _session(self) -> Any:
        session: Any = self._hook.get_session()
        # boto3 has no way of its own to be given a loader.
        session._session.register_component("data_loader", _loader())
        return session

    def client(self, service: str, config: Config) -> Any:
        """As ``AwsBaseHook.get_conn`` makes it, less its user agent: to name the caller there it reads the source of
        every frame of the stack, which takes longer (0.15 s) than the call that the client is for.
        """
        if service in outside.aws:
            return outside.aws[service]
        endpoint = self._hook.conn_config.get_service_endpoint_url(service)
        return self._session.client(service, endpoint_url=endpoint, config=config, verify=self._hook.verify)

    def signed(self, service: str, client: Any) -> SignedClient:
        """A client whose calls aiohttp sends, with endpoint, region, time-outs and attempts of ``client``."""
        if service in outside.aws:
            return cast("SignedClient", outside.aws[service])
        from include.clients.signed import SignedClient

        verify = self._hook.verify
        if verify is None:
            # boto3 has no way of its own to ask for what the configuration file and AWS_CA_BUNDLE say.
            verify = self._session._session.get_config_variable("ca_bundle")
        return SignedClient(client, self._session.get_credentials, verify=verify)


def s3_client(*, max_connections: int = 10, session: AwsSession | None = None) -> S3Client:
    """An S3 client for up to ``max_connections`` requests at once, with bounded time-outs and retries."""
    return cast("S3Client", _client("s3", session, max_connections, seconds=(10, 30)))


def lambda_client(*, max_connections: int = 1, session: AwsSession | None = None) -> LambdaClient:
    """A Lambda client for up to ``max_connections`` invocations at once; one call is one invocation.

    botocore would repeat a call that took too long or failed, and so run the function again.
    """
    from include.clients.lambda_function import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS

    seconds = CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
    return cast("LambdaClient", _client("lambda", session, max_connections, seconds=seconds, attempts=1))


def quick_client(service: str, *, session: AwsSession | None = None) -> Any:
    """A client of DynamoDB, SQS or SSM, whose calls take milliseconds: one that does not answer is asked again soon."""
    return _client(service, session)


def signed_client(service: str, *, session: AwsSession | None = None, client: Any = None) -> SignedClient:
    """The same for an event loop, and for the service of any client that there is already; not opened."""
    session = session or AwsSession()
    return session.signed(service, client or _client(service, session))


def sns_client(*, max_connections: int = 1, attempts: int = 1) -> SNSClient:
    """An SNS client that waits for no more than 15 s an attempt; a message that was slow to be confirmed goes again."""
    return cast("SNSClient", _client("sns", None, max_connections, attempts=attempts))


def _client(
    service: str, session: AwsSession | None, most: int = 50, *, seconds: tuple[int, int] = (5, 10), attempts: int = 4
) -> Any:
    """``seconds`` to connect and to read; 10 are above the longest poll of a queue."""
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    connect, read = seconds
    config = Config(max_pool_connections=most, connect_timeout=connect, read_timeout=read, retries=retries)
    return (session or AwsSession()).client(service, config)


@functools.cache
def preload() -> None:
    """Load what clients are made of: a task that is forked from this process then makes one in a tenth of the time.

    Done once, as Airflow loads its plugins in the worker and again in each of its tasks.
    """
    import botocore.session

    _spare_sessions.extend(botocore.session.get_session() for _ in range(_SPARE_SESSIONS))
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    # Otherwise each client would log where the local stack's endpoint was found, in every Airflow command.
    session.set_config_variable("ignore_configured_endpoint_urls", True)
    for service in _TASK_SERVICES:
        # Made for what it loads, and thrown away: it can sign nothing and calls nobody.
        session.create_client(service, region_name="us-east-1", aws_access_key_id="", aws_secret_access_key="")


@functools.cache
def _loader() -> Loader:
    """The service descriptions that all clients of this process share; some 0.1 s of CPU for each service."""
    from botocore.loaders import Loader

    return Loader()


SESSION_SECONDS = 60.0
"""For so long a thread uses a session again: also credentials of a file, which never change in it, may be renewed."""

_SPARE_SESSIONS = 3
"""What a task takes at most: for the secrets backend, for ``aws_default``, and for another connection."""

_spare_sessions: list[Session] = []
_kept = threading.local()


@functools.cache
def __getattr__(name: str) -> Any:
    """Make the session factory when it is asked for.

    Airflow asks while it imports ``base_aws``, which takes 0.3 s, and of which the factory's base class is a part.
    """
    if name != "SharedSessionFactory":
        raise AttributeError(name)
    import boto3
    import botocore.session
    from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory

    class SharedSessionFactory(BaseSessionFactory):
        """What option ``[aws] session_factory`` names: sessions for the provider's hooks and secrets backend.

        Each read of a Variable or connection makes a backend, a session and a client. With botocore sessions that
        were made before the task was forked, and shared by connections of equal settings, that takes 3 ms of CPU
        instead of 50. Roles are assumed as Airflow does it, from such a session.
        """

        def create_session(self, deferrable: bool = False) -> Any:
            """The session of the connection, or of boto3's own chain of credentials where there is none."""
            if deferrable or self.conn:
                return super().create_session(deferrable)
            return self._create_basic_session({"region_name": self.region_name})

        def _create_basic_session(self, session_kwargs: dict[str, Any]) -> boto3.Session:
            """This thread's session of these settings: region, credentials or profile."""
            sessions: dict[Any, tuple[float, boto3.Session]] = vars(_kept).setdefault("sessions", {})
            now = outside.monotonic()
            for old in [each for each, (until, _) in sessions.items() if now >= until]:
                del sessions[old]
            key = tuple(sorted((name, value) for name, value in session_kwargs.items() if value is not None))
            if key not in sessions:
                made = _spare_sessions.pop() if _spare_sessions else botocore.session.get_session()
                session = boto3.Session(botocore_session=made, **session_kwargs)
                # Afterwards, as boto3 adds a directory of its own to the loader that it finds.
                made.register_component("data_loader", _loader())
                sessions[key] = now + SESSION_SECONDS, session
            return sessions[key][1]

    return SharedSessionFactory


def publish_metrics(values: Mapping[str, float], *, environment: str, pipeline: str) -> None:
    """Publish counts to CloudWatch, namespace ``Pipelines``, dimensions ``Environment`` and ``Pipeline``.

    Raises what botocore raises.
    """
    from botocore.config import Config

    dimensions = [{"Name": "Environment", "Value": environment}, {"Name": "Pipeline", "Value": pipeline}]
    AwsSession().client("cloudwatch", Config(connect_timeout=10, read_timeout=10)).put_metric_data(
        Namespace=METRICS_NAMESPACE,
        MetricData=[
            {"MetricName": name, "Value": value, "Unit": "Count", "Dimensions": dimensions}
            for name, value in values.items()
        ],
    )
