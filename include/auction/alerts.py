"""A run's alerts: one for each order that was not accepted, delivered once on each channel.

Delivery sends several at a time and never raises: a channel that fails does not change how the run ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from include.alerts import Alert, RunRef, Section, Send, Severity
from include.auction.models import Result, Summary
from include.clients.s3 import get_json, put_json
from include.errors import Backoff, describe
from include.mapped_work import Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

WAIT_TASK = "wait_for_results"
ORDER_TASK = "process_order"


def order_alerts(run: RunRef, summary: Summary, slices: Sequence[Slice]) -> dict[str, Alert]:
    """The alerts of a run's orders, by a name that is the same whenever the same order ends in the same way."""
    found = {}
    for map_index, piece in enumerate(slices):
        for outcome in filter(lambda outcome: outcome.failed, summary.outcomes[piece.start : piece.stop]):
            what = f"order {outcome.index} (id {outcome.order_id})"
            failure = run.failure(what, outcome.reason, ORDER_TASK, map_index)
            rejected = outcome.result is Result.REJECTED
            headline = f"order {outcome.index} {'was rejected' if rejected else 'failed'}"
            severity = Severity.WARNING if rejected else Severity.ERROR
            section = Section.REJECTED_ORDER if rejected else Section.AUCTION_RUN
            alert = run.alert(severity, headline, failures=[failure], section=section)
            found[f"{outcome.order_id}/{outcome.result}"] = alert
    return found


def no_orders(run: RunRef, *, what: str, reason: str) -> Alert:
    """The alert of a run whose results could not be read; ``what`` became of its orders."""
    headline = f"{what}: waiting for results failed"
    failure = run.failure("the results", reason, WAIT_TASK)
    return run.alert(Severity.ERROR, headline, failures=[failure], section=Section.AUCTION_RUN)


ATTEMPTS = 3
PAUSES = Backoff(first=1.0, jitter=0)
"""Between attempts, doubled each time."""

MAX_FAILURES_IN_A_ROW = 5
"""Alerts that a channel may refuse, with all attempts, before it counts as down for the rest of the run."""

SAVE_EVERY_SECONDS = 1.0


class DeliveryRecord:
    """Which alert went through which channel, kept in S3, so that a summary that is run again does not repeat it.

    A record that cannot be read or written is only logged: alerts are delivered at least once. It is written every
    ``save_every`` seconds at most.
    """

    def __init__(self, s3: S3Client, bucket: str, key: str, *, save_every: float = SAVE_EVERY_SECONDS) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._save_every = save_every
        self._delivered = self._read()
        self._lock = threading.RLock()
        self._saved_at = time.monotonic()

    def channels_of(self, name: str) -> list[str]:
        """The channels that took the alert ``name``."""
        return list(self._delivered.get(name, ()))

    def add(self, name: str, channel: str) -> None:
        """Record that a channel took an alert."""
        with self._lock:
            self._delivered.setdefault(name, []).append(channel)
            if time.monotonic() - self._saved_at >= self._save_every:
                self.save()

    def save(self) -> None:
        """Write the record."""
        with self._lock:
            try:
                put_json(self._s3, self._bucket, self._key, {"delivered": self._delivered})
            except Exception as error:  # noqa: BLE001 - what was delivered stays delivered
                log.warning("delivered alerts were not recorded and may be repeated: %s", describe(error))
            self._saved_at = time.monotonic()

    def _read(self) -> dict[str, list[str]]:
        try:
            document: dict[str, Any] = get_json(self._s3, self._bucket, self._key) or {"delivered": {}}
            return {name: [str(channel) for channel in found] for name, found in document["delivered"].items()}
        except Exception as error:  # noqa: BLE001 - unreadable or damaged, alerts go out all the same
            log.warning("delivered alerts cannot be read and may be repeated: %s", describe(error))
            return {}


def deliver(
    alerts: Mapping[str, Alert],
    channels: Mapping[str, Send],
    record: DeliveryRecord,
    *,
    at_once: Mapping[str, int],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Send each alert through each channel that has not taken it yet; the channels do not wait for each other.

    Alerts are by name (see :func:`order_alerts`), and so are the channels, each with how many alerts may be under way
    through it ``at_once``. What is delivered is added to the record. What is under way after so many seconds, by a
    clock that only grows, counts as not delivered, and is sent again by a summary that is cleared.

    Returns how many messages were not delivered, counted by alert and channel.
    """
    deadline = clock() + seconds
    in_a_row, lock = Counter[str](), threading.Lock()

    def took(channel: str, alert: Alert) -> bool:
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(PAUSES.seconds(attempt))
            if clock() >= deadline:
                break
            try:
                channels[channel](alert)
            except Exception as error:  # noqa: BLE001 - whatever a channel raises must not reach the pipeline
                log.warning("alert was not delivered through %s: %s", channel, describe(error))
            else:
                return True
        return False

    def send(channel: str, name: str) -> bool:
        if in_a_row[channel] >= MAX_FAILURES_IN_A_ROW:
            return False
        sent = took(channel, alerts[name])
        with lock:
            in_a_row[channel] = 0 if sent else in_a_row[channel] + 1
        if sent:
            record.add(name, channel)
        return sent

    jobs: list[Future[bool]] = []
    for channel in channels:
        pool = ThreadPoolExecutor(at_once[channel])
        jobs += [pool.submit(send, channel, name) for name in alerts if channel not in record.channels_of(name)]
        pool.shutdown(wait=False)
    if not jobs:
        return 0
    ended = wait(jobs, timeout=seconds).done
    for job in jobs:
        # What is under way goes on without blocking the run: a channel may never answer.
        job.cancel()
    undelivered = len(jobs) - sum(job.result() for job in ended)
    record.save()
    if undelivered:
        log.warning("messages about orders that were not delivered: %d", undelivered)
    return undelivered
