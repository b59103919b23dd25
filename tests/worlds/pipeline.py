"""What surrounds the tasks of every pipeline: settings, connections, alerts, metrics."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import quote, quote_plus

import pytest

from airflow_ext.ids import ALL_PIPELINES
from airflow_ext.outside import outside
from tests.worlds.alerts import TOPIC, Wire
from tests.worlds.s3 import FakeS3

PLANTED = "pl4nted\"s3c\\ret-'é&+ß"
"""A secret with what is written differently in JSON, repr and URLs."""
PLANTED_TOKEN = "t0k3n-pl4nted\"'\\&+"
"""A token with such characters, as far as a header takes them."""


def forms_of(secret: str) -> set[str]:
    """How a secret may be written: as it is, in JSON, as Python's repr of text and bytes, in a URL, and its parts."""
    return {
        secret,
        *(repr(json.dumps(secret, ensure_ascii=ascii_only))[2:-2] for ascii_only in (True, False)),
        *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        quote(secret),
        quote_plus(secret),
        *re.findall("[A-Za-z0-9]{6,}", secret),
    }


def leaks(everything: Mapping[str, str] | str, *secrets: str) -> list[tuple[str, str]]:
    """Where (its name) a secret is written, and in which form; nothing, if none leaks. No text may be empty."""
    texts = {"text": everything} if isinstance(everything, str) else everything
    assert all(texts.values()), "or nothing was looked at"
    forms = sorted(form for secret in secrets for form in forms_of(secret))
    return [(name, form) for name, text in texts.items() for form in forms if form in text]


class FakeCloudWatch:
    """Quacks like a boto3 CloudWatch client.

    ``published`` holds environment, pipeline and values of each call. ``error`` is raised instead, if a test gives one.
    """

    def __init__(self) -> None:
        self.published: list[tuple[str, str, dict[str, float]]] = []
        self.error: BaseException | None = None

    def put_metric_data(self, *, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's names
        if self.error is not None:
            raise self.error
        assert Namespace == "Pipelines"
        found = [{each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in MetricData]
        assert all(each == found[0] for each in found)
        values = {each["MetricName"]: each["Value"] for each in MetricData}
        self.published.append((found[0]["Environment"], found[0]["Pipeline"], values))


@dataclass(kw_only=True)
class PipelineWorld:
    """Set it up by changing its parts before a task runs; look at them afterwards.

    ``settings`` are those of the class's ``SETTINGS`` and what a test changes.
    """

    SETTINGS: ClassVar[Mapping[str, Any]] = {}

    wire: Wire = field(default_factory=Wire)
    cloudwatch: FakeCloudWatch = field(default_factory=FakeCloudWatch)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fixture(cls) -> Any:
        """A fixture for tests of one module: such a world, attached."""

        @pytest.fixture
        def world() -> Iterator[Self]:
            with cls().attached() as attached:
                yield attached

        return world

    @contextmanager
    def attached(self) -> Iterator[Self]:
        """Stand in for the outside during the block."""
        aws, parts = self.outside()
        with pytest.MonkeyPatch.context() as self.environment:
            self.wire.attach(self.environment)
            self.change_settings(
                **{
                    "environment": "local",
                    "archive_bucket": "archive",
                    "order_results_bucket": "order-results",
                    "alerts_topic_arn": TOPIC,
                    **self.SETTINGS,
                    **self.settings,
                }
            )
            with outside.replaced(aws={"cloudwatch": self.cloudwatch, "s3": FakeS3("order-results"), **aws}, **parts):
                yield self

    def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """AWS clients by service, and the other parts of :class:`~airflow_ext.outside.Outside`; for subclasses."""
        raise NotImplementedError

    def change_settings(self, **changes: Any) -> None:
        self.settings |= changes
        self.environment.setenv("AIRFLOW_VAR_SETTINGS", json.dumps(self.settings))

    def set_connection(self, conn_id: str, **fields: Any) -> None:
        self.environment.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    @property
    def metrics(self) -> list[tuple[str, dict[str, float]]]:
        """Pipeline and values, less the run's duration, of each time that a pipeline's own metrics were published."""
        assert all(environment == self.settings["environment"] for environment, _, _ in self.cloudwatch.published)
        return [
            (pipeline, {name: value for name, value in values.items() if name != "RunSeconds"})
            for _, pipeline, values in self.cloudwatch.published
            if pipeline != ALL_PIPELINES
        ]

    @property
    def reported_failures(self) -> int:
        """How many failed runs were counted as reported."""
        own = [values for _, pipeline, values in self.cloudwatch.published if pipeline == ALL_PIPELINES]
        assert all(values == {"ReportedFailures": 1.0} for values in own)
        return len(own)
