"""What is configured in Airflow: the Variable ``settings``, one JSON object, typed and frozen, and Connections.

Both are read at run time (spec: platform); an error says what belongs where.
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
    """The settings of one environment.

    Args:
        environment: ``dev``, ``staging``, ``prod`` or ``local``.
        business_timezone: zone in which a day is a business day.
        trigger_date_offset_days: added to the run's day; -1 archives the day before.
        archive_bucket: bucket of the DEX trigger archive.
        alerts_topic_arn: SNS topic of the alerts.
        runbook_url: where people read the runbook, for links to its sections.
        dex_api_base_url: base URL of the DEX API where connection ``dex_api`` names none.
        max_mapped_clients: most tasks that an archive run maps; Airflow's own limit is 1,024.
        clients_per_task: size of the groups above that limit.
        archive_concurrency: calls that one task runs at once, at most; with many tasks in a run it is fewer.
        archive_lock_mode: of S3 Object Lock for evidence, manifests and ledger.
        archive_lock_days: how long such an object cannot be deleted.
        order_results_bucket: bucket of the auction's order results.
        auction_results_timeout: seconds from a run's start in which Lambda A is asked for results.
        max_mapped_orders: most tasks that an auction run maps.
        orders_per_task: size of the groups above that limit.
        auction_concurrency: invocations of Lambda B that one task runs at once.
        rejection_errors: types of the errors with which Lambda B rejects an order, beside ``OrderRejectedError``;
            ``*`` = any that its own code raises.
        ingest_bucket: bucket of the call-details files.
        incoming_prefix: under which they are dropped; empty = the whole bucket but the project's own prefixes.
        ignored_names: patterns of names that uploads under way have, as a list or separated by commas.
        ingest_ledger_table: table of the ingest's claims, acknowledgements and permits.
        call_details_dlq_url: queue of the dead letters.
        max_records_per_batch: of a file that was never planned before; the API takes no more than 500.
        max_retries: how often a batch is sent in all.
        max_concurrent_calls: of the call-details API, over all tasks, files and replays.
        events_table: table of the events API.
        subscriptions_table: table of the addresses that events are delivered to.
        event_queue_url: queue that wakes the delivery.
        event_dlq_url: queue of the events that could not be delivered.
        max_delivery_attempts: how often an event is posted in all.
        delivery_tasks: tasks that a delivery run maps at most.
        delivery_concurrency: posts that one task makes at once.
    """

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
    archive_concurrency: Annotated[int, Field(ge=1, le=64)] = 64
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
        """Whether partners and webhooks lie on this machine: http and private addresses are for this environment."""
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
    """Read and check the settings.

    Raises:
        SettingsUnavailableError: there is no such Variable, or its store cannot be reached.
        SettingsError: it may not be read, is no JSON object, or fields are missing or malformed; each is named.
    """
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
    """The settings, with all that the call-details DAGs need; raises as :func:`load_settings` does."""
    return require(load_settings(), "ingest_bucket", "ingest_ledger_table", "call_details_dlq_url")


def delivery_settings() -> Settings:
    """The settings, with all that the delivery needs; raises as :func:`load_settings` does."""
    return require(load_settings(), "events_table", "subscriptions_table", "event_queue_url", "event_dlq_url")


def require(settings: Settings, *names: str) -> Settings:
    """The settings, if none of these fields is empty.

    Raises:
        SettingsError: names those that are.
    """
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsError(f"settings: {', '.join(missing)} missing: deploy the application stack")
    return settings


def parse_settings(text: str) -> Settings:
    """The settings in ``text``, a JSON object.

    Raises:
        SettingsError: names every field that is missing or malformed.
    """
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
    """The Connection ``conn_id``.

    Raises:
        SettingsUnavailableError: there is none, or its store cannot be reached.
        SettingsError: Airflow may not read it.
    """
    where = f"connection '{conn_id}' (Secrets Manager: airflow/connections/{conn_id})"
    try:
        return BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError) as error:
        raise SettingsUnavailableError(
            f"{where} was not found or is not valid JSON, or its store is out of reach; put its JSON there"
        ) from error
    except AirflowSecretsBackendAccessDenied as error:
        raise SettingsError(f"{where} may not be read: check the execution role's permissions") from error


def partner_url(conn: Connection, name: str, text: str, *, https_only: bool, in_parts: bool = False) -> str:
    """A partner's URL, checked: a path in it stays as it is, and it holds no secret, as URLs are quoted in errors.

    Args:
        conn: connection that it belongs to.
        name: of its field.
        text: its value; white space around it is dropped.
        https_only: refuse http, which is for the local environment.
        in_parts: scheme and port may be in fields of their own, as the UI's form and a connection's URI have them.

    Raises:
        SettingsError: names the field.
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
    if url.raw_query_string:
        raise SettingsError(f"{where} must hold no query; a secret goes to a field of its own")
    if in_parts and conn.port:
        if url.explicit_port not in (None, conn.port):
            raise SettingsError(f"{where} names port {url.explicit_port}, but field port says {conn.port}; drop one")
        url = url.with_port(conn.port)
    return str(url).removesuffix("/") if url.raw_path == "/" else str(url)
