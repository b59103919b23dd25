"""What is configured in Airflow: the Variable ``settings``, one JSON object, typed and frozen, and Connections.

Both are read at run time (spec: platform). Whatever reads one raises SettingsUnavailableError if it is not there or its
store is out of reach, and SettingsError, which names each field, if it may not be read or is malformed.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow.sdk import BaseHook, Variable
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, AirflowSecretsBackendAccessDenied
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from airflow_ext.ids import SETTINGS_VARIABLE
from include.alerts import RUNBOOK
from include.errors import SettingsError, SettingsUnavailableError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from include.call_details.keys import Incoming

log = logging.getLogger(__name__)

MAX_ARCHIVE_CONCURRENCY = 64

_WHERE = f"Airflow Variable '{SETTINGS_VARIABLE}' (Secrets Manager: airflow/variables/{SETTINGS_VARIABLE})"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone; write one such as America/New_York") from error
    return name


def _not_our_own(prefix: str) -> str:
    from include.call_details.keys import OWN_PREFIXES

    if prefix and any(prefix.startswith(own) or own.startswith(prefix) for own in OWN_PREFIXES):
        raise ValueError(f"{prefix!r} is where the ingest keeps files of its own; name another prefix")
    return prefix


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


_TableName = Annotated[str, Field(pattern=r"^([a-zA-Z0-9_.-]{3,255})?$")]
_QueueUrl = Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
_BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class Settings(BaseModel):
    """The settings of one environment; docs/CONFIGURATION.md says what each means, and its unit."""

    model_config = ConfigDict(frozen=True, extra="allow")

    environment: Annotated[str, Field(min_length=1)]
    business_timezone: Annotated[str, AfterValidator(_known_zone)] = "America/New_York"
    trigger_date_offset_days: Annotated[int, Field(ge=-3650, le=3650)] = 0
    archive_bucket: _BucketName
    alerts_topic_arn: Annotated[str, Field(pattern=r"^arn:[\w-]+:sns:")]
    runbook_url: Annotated[str, Field(pattern=r"^\S+$")] = RUNBOOK
    dex_api_base_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    max_mapped_clients: Annotated[int, Field(ge=1, le=1024)] = 500
    clients_per_task: PositiveInt = 1500
    archive_concurrency: Annotated[int, Field(ge=1, le=MAX_ARCHIVE_CONCURRENCY)] = 64
    archive_lock_mode: Literal["NONE", "GOVERNANCE", "COMPLIANCE"] = "NONE"
    archive_lock_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    order_results_bucket: _BucketName
    # More would leave no time for the orders: see include/auction/deadlines.py.
    auction_results_timeout: Annotated[int, Field(ge=1, le=240)] = 240
    max_mapped_orders: Annotated[int, Field(ge=1, le=1024)] = 100
    orders_per_task: PositiveInt = 50
    auction_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    rejection_errors: tuple[Annotated[str, Field(min_length=1)], ...] = ("OrderRejectedError",)
    # The next three are required by the call-details DAGs alone, which say so: see hooks/call_details.py.
    ingest_bucket: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")] = ""
    incoming_prefix: Annotated[str, Field(pattern=r"^([^/][\s\S]*/)?$"), AfterValidator(_not_our_own)] = "incoming/"
    ignored_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_names)] = (
        "*.filepart",
        "*.tmp",
        "*.part",
        "*.partial",
        ".*",
    )
    ingest_ledger_table: _TableName = ""
    call_details_dlq_url: _QueueUrl = ""
    max_records_per_batch: Annotated[int, Field(ge=1, le=500)] = 500
    max_retries: Annotated[int, Field(ge=1, le=10)] = 3
    max_concurrent_calls: Annotated[int, Field(ge=1, le=1000)] = 50
    # The next four are required by the delivery alone, which says so: see tasks/event_delivery.py.
    events_table: _TableName = ""
    subscriptions_table: _TableName = ""
    event_queue_url: _QueueUrl = ""
    event_dlq_url: _QueueUrl = ""
    max_delivery_attempts: Annotated[int, Field(ge=1, le=100)] = 11
    delivery_tasks: Annotated[int, Field(ge=1, le=64)] = 4
    delivery_concurrency: Annotated[int, Field(ge=1, le=256)] = 96

    @property
    def is_local(self) -> bool:
        """Whether partners and webhooks are on this machine: http and private addresses are for this environment."""
        return self.environment == "local"

    @property
    def incoming(self) -> Incoming:
        """Which objects of the ingest bucket are dropped files."""
        from include.call_details.keys import Incoming

        return Incoming(self.incoming_prefix, self.ignored_names)

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.business_timezone)


def load_settings() -> Settings:
    """Read and check the settings."""
    try:
        text = Variable.get(SETTINGS_VARIABLE)
    except AirflowSecretsBackendAccessDenied as error:
        raise SettingsError(f"{_WHERE} may not be read: check the execution role's permissions") from error
    except AirflowRuntimeError as error:
        raise SettingsUnavailableError(
            f"{_WHERE} was not found, or its store could not be reached; deploy the application stack or put it there"
        ) from error
    return parse_settings(text)


def call_details_settings() -> Settings:
    """The settings, with all that the call-details DAGs need."""
    return require(load_settings(), "ingest_bucket", "ingest_ledger_table", "call_details_dlq_url")


def delivery_settings() -> Settings:
    """The settings, with all that the delivery needs."""
    return require(load_settings(), "events_table", "subscriptions_table", "event_queue_url", "event_dlq_url")


def require(settings: Settings, *names: str) -> Settings:
    """The settings, if none of these fields is empty; else a SettingsError names those that are."""
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsError(f"settings: {', '.join(missing)} missing: deploy the application stack")
    return settings


def parse_settings(text: str) -> Settings:
    """The settings in ``text``, a JSON object."""
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{_WHERE} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{_WHERE} is not a JSON object but {type(document).__name__}")
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False)
        )
        raise SettingsError(f"{_WHERE} cannot be used: {faults}") from error
    if settings.model_extra:
        # A newer template may write settings that this version does not know; a typo looks the same.
        log.warning("settings has fields that nothing reads: %s", ", ".join(sorted(settings.model_extra)))
    return settings


def get_connection(conn_id: str) -> Connection:
    """The Connection ``conn_id``."""
    where = f"connection '{conn_id}' (Secrets Manager: airflow/connections/{conn_id})"
    try:
        return BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError) as error:
        raise SettingsUnavailableError(
            f"{where} was not found or is not valid JSON, or its store is out of reach; put its JSON there"
        ) from error
    except AirflowSecretsBackendAccessDenied as error:
        raise SettingsError(f"{where} may not be read: check the execution role's permissions") from error


def partner_url(
    conn: Connection, name: str, text: str, *, https_only: bool, in_parts: bool = False, with_query: bool = False
) -> str:
    """A partner's URL, checked: a path in it stays as it is, and it holds no secret, as URLs are quoted in errors.

    White space around ``text``, the value of the connection's field ``name``, is dropped. ``https_only`` refuses http,
    which is for the local environment; ``in_parts``: scheme and port may be in fields of their own, as the UI's form
    and a connection's URI have them; ``with_query``: it may have a query, and then no error quotes it.
    """
    from include.clients.connections import parse_url

    text, where = text.strip(), f"connection '{conn.conn_id}': {name}"
    if in_parts and "://" not in text:
        text = f"{conn.schema if conn.schema in ('http', 'https') else 'https'}://{text}"
    try:
        url = parse_url(text)
    except ValueError as error:
        # Not chained: it would be logged, and what cannot be read may hold a secret.
        raise SettingsError(f"{where} {error}; write one such as https://api.example.com") from None
    if url.scheme not in ("http", "https") or (https_only and url.scheme == "http"):
        raise SettingsError(f"{where} must begin with https:// (http:// is for the environment 'local' alone)")
    if url.raw_query_string and not with_query:
        raise SettingsError(f"{where} must hold no query; a secret goes to a field of its own")
    if in_parts and conn.port:
        if url.explicit_port not in (None, conn.port):
            raise SettingsError(f"{where} names port {url.explicit_port}, but field port says {conn.port}; drop one")
        url = url.with_port(conn.port)
    return str(url).removesuffix("/") if url.raw_path == "/" else str(url)
