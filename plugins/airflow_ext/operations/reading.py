"""What one request may read of AWS, and what is remembered between requests.

A request makes at most 200 calls in five seconds; what it did not get to is said in ``left_out``. A whole answer is
kept for 30 s. What was read of an object is kept by its ETag: a calendar reads again only the days that changed.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from airflow_ext.hooks.aws import AwsSession
from airflow_ext.outside import outside
from airflow_ext.settings import Settings, load_settings, require
from include.errors import PipelineError

MOST_CALLS = 200
MOST_SECONDS = 5.0
ROWS = 25
"""Of a list, a page."""

_READING_SECONDS = 4.0
"""No call is begun later: one that does not answer ends in time, too."""
_KEPT_SECONDS = 30.0
_KEPT_ANSWERS = 256
_KEPT_OBJECTS = 20_000
_KEPT_DOCUMENTS = 4
_DOCUMENT_SECONDS = 300.0
_AT_ONCE = 16

_NAMES = {"s3": "S3", "dynamodb": "DynamoDB", "sqs": "SQS"}

_CALLS = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="operations-aws")


class _LeftOutError(Exception):
    """The request has made all its calls, or its time is over."""


class Kept:
    """Remembers values: at most ``most``, and each for ``seconds`` (None = while there is room). Safe for threads."""

    def __init__(self, most: int, seconds: float | None = None) -> None:
        self._most, self._seconds = most, seconds
        self._values: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        with self._lock:
            kept = self._values.get(key)
            if kept is None or (self._seconds is not None and outside.monotonic() - kept[0] > self._seconds):
                return None
            self._values.move_to_end(key)
            return kept[1]

    def put(self, key: Hashable, value: Any) -> None:
        """Remember; the values that were not used for longest go."""
        with self._lock:
            self._values[key] = (outside.monotonic(), value)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def of[Found](self, key: Hashable, make: Callable[[], Found]) -> Found:
        """The value, which is made if there is none."""
        found: Found | None = self.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found


class Source:
    """What the requests of one server process share."""

    def __init__(self) -> None:
        self.answers = Kept(_KEPT_ANSWERS, _KEPT_SECONDS)
        self.objects = Kept(_KEPT_OBJECTS)
        self.documents = Kept(_KEPT_DOCUMENTS, _DOCUMENT_SECONDS)
        self._own = Kept(8, _KEPT_SECONDS)

    def settings(self) -> Settings:
        """The Variable ``settings``; raises as :func:`airflow_ext.settings.load_settings`."""
        return self._own.of("settings", load_settings)

    def client(self, service: str) -> Any:
        """A boto3 client that gives up within the time of a request."""

        def make() -> Any:
            from botocore.config import Config

            retries: Any = {"mode": "standard", "total_max_attempts": 2}
            config = Config(max_pool_connections=_AT_ONCE, connect_timeout=1, read_timeout=2, retries=retries)
            return AwsSession().client(service, config)

        return self._own.of(service, make)


class _Counted:
    """A boto3 client whose calls count, those of its paginators too."""

    def __init__(self, reads: Reads, service: str) -> None:
        self._reads, self._service = reads, service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **request: self._reads.call(self._service, operation, request)

    def get_paginator(self, operation: str) -> Any:
        """As boto3's; every page counts."""
        return SimpleNamespace(paginate=lambda **request: self._reads.pages(self._service, operation, request))


class Reads:
    """The reads of one request; those of a download are not limited, as a part of it would pass for all.

    Attributes:
        strips: what could not be read, and why.
        left_out: what was not read for want of calls or time.
        calls: made so far.
        most_calls: that it may make; a view may keep some back for a later part.
    """

    def __init__(self, source: Source, *, limited: bool = True) -> None:
        self.strips: list[str] = []
        self.left_out: list[str] = []
        self.calls = 0
        self.most_calls = MOST_CALLS if limited else sys.maxsize
        self._source = source
        self._end = outside.monotonic() + _READING_SECONDS if limited else math.inf
        self._down: dict[str, Exception] = {}
        self._lock = threading.Lock()

    @cached_property
    def settings(self) -> Settings:
        """The settings."""
        return self._source.settings()

    def require(self, *names: str) -> Settings:
        """The settings, if none of these fields is empty; see :func:`airflow_ext.settings.require`."""
        return require(self.settings, *names)

    def aws(self, service: str) -> Any:
        """A boto3 client of this request."""
        return _Counted(self, service)

    def unlimited(self, service: str) -> Any:
        """A boto3 client whose calls do not count, for downloads."""
        return self._source.client(service)

    def call(self, service: str, operation: str, request: dict[str, Any]) -> Any:
        """One call, if there are any left; a service that was not reached is not tried again."""
        with self._counted(service):
            return getattr(self._source.client(service), operation)(**request)

    def pages(self, service: str, operation: str, request: dict[str, Any]) -> Iterator[Any]:
        """The pages of a paginator, each as one call."""
        pages = iter(self._source.client(service).get_paginator(operation).paginate(**request))
        while True:
            with self._counted(service):
                page = next(pages, None)
            if page is None:
                # The end took no call.
                self.calls -= 1
                return
            yield page

    @contextmanager
    def _counted(self, service: str) -> Iterator[None]:
        from botocore.exceptions import ConnectionError as NoConnectionError
        from botocore.exceptions import HTTPClientError

        with self._lock:
            if service in self._down:
                raise self._down[service]
            if self.calls >= self.most_calls or outside.monotonic() > self._end:
                raise _LeftOutError
            self.calls += 1
        try:
            yield
        except (HTTPClientError, NoConnectionError) as error:
            self._down[service] = error
            raise

    @contextmanager
    def section(self, what: str = "a part of the answer") -> Iterator[None]:
        """A part of an answer: if it cannot be read, the rest is answered all the same."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except _LeftOutError:
            self._add(self.left_out, what)
        except (PipelineError, BotoCoreError, ClientError) as error:
            self._add(self.strips, self._strip(error))

    def _strip(self, error: Exception) -> str:
        for service, reason in self._down.items():
            # What translates errors keeps the one of botocore as the cause.
            if reason in (error, error.__cause__):
                name = _NAMES.get(service, service)
                return f"{name} cannot be reached from Airflow's server ({type(reason).__name__})"
        return str(error)

    def each[Item, Found](self, read: Callable[[Item], Found], items: Iterable[Item], what: str) -> list[Found | None]:
        """What ``read`` returns for each item, many at once; None for those that were left out or failed."""
        return list(_CALLS.map(lambda item: self.attempt(lambda: read(item), what), items))

    def attempt[Found](self, read: Callable[[], Found], what: str = "a part of the answer") -> Found | None:
        """What ``read`` returns; None if it was left out or failed."""
        found: list[Found] = []
        with self.section(what):
            found.append(read())
        return found[0] if found else None

    def document[Found](self, key: str, etag: str, read: Callable[[], Found]) -> Found:
        """As :meth:`object`, for large ones, of which few are kept."""
        return self._source.documents.of((key, etag), read)

    def object[Found](self, kind: str, key: str, etag: str, read: Callable[[], Found]) -> Found:
        """What ``read`` makes of an object, kept by its ETag."""
        return self._source.objects.of((kind, key, etag), read)

    def listed(
        self,
        bucket: str,
        prefix: str,
        *,
        after: str = "",
        delimiter: str = "",
        pages: int = 1,
        past: Callable[[str], str | None] = lambda key: None,
    ) -> list[Any]:
        """Objects as ListObjectsV2 describes them, of keys later than ``after``; ``/`` leaves out what lies deeper.

        What is beyond so many ``pages`` of 1,000 is left out. ``past`` gives of a key that is not wanted after which
        one to list on, and None of any other.
        """
        found: list[Any] = []
        more: dict[str, str] = {"StartAfter": after} if after else {}
        for _ in range(pages):
            answer = self.aws("s3").list_objects_v2(
                Bucket=bucket, Prefix=prefix, **({"Delimiter": delimiter} if delimiter else {}), **more
            )
            for each in answer.get("Contents", []):
                if (on := past(each["Key"])) is not None:
                    more = {"StartAfter": on}
                    break
                found.append(each)
            else:
                if not answer.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": answer["NextContinuationToken"]}
        self._add(self.left_out, f"what follows the first {len(found):,} objects below {prefix}")
        return found

    def _add(self, texts: list[str], text: str) -> None:
        with self._lock:
            if text not in texts:
                texts.append(text)


def page(rows: Sequence[Any], cursor: int, *, total: int | None = None) -> dict[str, Any]:
    """One page of a list: ``rows``, ``total``, and ``next``, the cursor of the next page or None.

    Of all rows, or of those up to the page's last one and how many there are in all; a cursor is the place of a page's
    first row.
    """
    end, total = cursor + ROWS, len(rows) if total is None else total
    return {"rows": list(rows[cursor:end]), "total": total, "next": end if end < total else None}
