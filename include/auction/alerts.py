"""What people are told of a run's orders: one alert for each that was not accepted.

Delivering a run's alerts: each once on each channel, several at a time, and never at the pipeline's expense.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.alerts import Alert, Failure, Severity
from include.auction.models import Outcome, Result, Summary
from include.clients.s3 import get_json, put_json
from include.mapped_work import Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

WAIT_TASK = "wait_for_results"
ORDER_TASK = "process_order"

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


def order_alerts(summary: Summary, slices: Sequence[Slice], *, pipeline: str, log_url: LogUrl) -> dict[str, Alert]:
    """The alerts of a run's orders, by a name that is the same whenever the same order ends in the same way.

    Args:
        summary: what became of the orders.
        slices: what the tasks were given.
        pipeline: id of the DAG.
        log_url: makes links to logs.
    """
    found = {}
    for map_index, piece in enumerate(slices):
        for outcome in summary.outcomes[piece.start : piece.stop]:
            if outcome.failed:
                alert = _order_alert(outcome, summary.run_id, pipeline, map_index, log_url(ORDER_TASK, map_index))
                found[f"{outcome.order_id}/{outcome.result}"] = alert
    return found


def no_orders(*, pipeline: str, run_id: str, reason: str, log_url: LogUrl) -> Alert:
    """The alert of a run whose results could not be read."""
    failure = Failure("the results", reason, WAIT_TASK, None, log_url(WAIT_TASK, None))
    return Alert(Severity.ERROR, pipeline, run_id, "no order was processed: waiting for results failed", (), [failure])


def _order_alert(outcome: Outcome, run_id: str, pipeline: str, map_index: int, log: str) -> Alert:
    rejected = outcome.result is Result.REJECTED
    what = f"order {outcome.index} (id {outcome.order_id})"
    failure = Failure(what, outcome.reason or "no reason given", ORDER_TASK, map_index, log)
    return Alert(
        Severity.WARNING if rejected else Severity.ERROR,
        pipeline,
        run_id,
        f"order {outcome.index} {'was rejected' if rejected else 'failed'}",
        (),
        [failure],
    )


Send = Callable[[Alert], None]
"""Sends an alert through one channel, or raises whatever it likes."""

ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""Between attempts, doubled each time."""

MAX_FAILURES_IN_A_ROW = 5
"""Alerts that a channel may refuse, with all attempts, before it counts as down for the rest of the run."""

SAVE_EVERY_SECONDS = 1.0


class DeliveryNotes:
    """Which alert went through which channel, kept in S3: a summary that is run again must not repeat it.

    Notes that cannot be read or kept are only logged: people are rather told twice than never.
    """

    def __init__(self, s3: S3Client, bucket: str, key: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._delivered = self._read()
        self._lock = threading.Lock()
        self._saved_at = time.monotonic()

    def channels_of(self, name: str) -> list[str]:
        """The channels that took the alert ``name``."""
        return list(self._delivered.get(name, ()))

    def add(self, name: str, channel: str) -> None:
        """Note that a channel took an alert."""
        with self._lock:
            self._delivered.setdefault(name, []).append(channel)
            if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
                self._save()

    def save(self) -> None:
        """Keep what has been noted."""
        with self._lock:
            self._save()

    def _read(self) -> dict[str, list[str]]:
        try:
            document: dict[str, Any] = get_json(self._s3, self._bucket, self._key) or {"delivered": {}}
            return {name: [str(channel) for channel in found] for name, found in document["delivered"].items()}
        except Exception as error:  # noqa: BLE001 - unreadable or damaged, it is no reason to stay silent
            log.error("delivered alerts cannot be read and may be repeated: %s: %s", type(error).__name__, error)
            return {}

    def _save(self) -> None:
        try:
            put_json(self._s3, self._bucket, self._key, {"delivered": self._delivered})
        except Exception as error:  # noqa: BLE001 - what was delivered stays delivered
            log.error("delivered alerts were not noted and may be repeated: %s: %s", type(error).__name__, error)
        self._saved_at = time.monotonic()


def deliver(
    alerts: Mapping[str, Alert],
    channels: Mapping[str, Send],
    notes: DeliveryNotes,
    *,
    at_once: Mapping[str, int],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Send each alert through each channel that has not taken it yet; the channels do not wait for each other.

    Args:
        alerts: by name, see :func:`include.auction.alerts.order_alerts`.
        channels: by name.
        notes: what was delivered before; what is delivered now is added.
        at_once: how many alerts may be on their way through each channel, by its name.
        seconds: for how long; what is on its way then counts as not delivered, and is sent again by a summary that is
            cleared: rather twice than never.
        sleep: waits for seconds.
        clock: seconds that only grow.

    Returns:
        how many messages were not delivered, counted by alert and channel.
    """
    waiting = {
        channel: [(name, alert) for name, alert in alerts.items() if channel not in notes.channels_of(name)]
        for channel in channels
    }
    to_send = sum(map(len, waiting.values()))
    if not to_send:
        return 0
    hours = _Hours(clock() + seconds, clock, sleep)
    couriers = {
        channel: _Courier(channel, send, waiting[channel][::-1], notes, hours) for channel, send in channels.items()
    }
    pool = ThreadPoolExecutor(sum(at_once[channel] for channel in couriers))
    rounds = [pool.submit(courier.work) for channel, courier in couriers.items() for _ in range(at_once[channel])]
    ended = wait(rounds, timeout=seconds).done
    # Not waited for: a channel that does not answer must not cost the run its end.
    pool.shutdown(wait=False, cancel_futures=True)
    for each in ended:
        each.result()
    notes.save()
    undelivered = to_send - sum(courier.delivered for courier in couriers.values())
    if undelivered:
        log.error("messages about orders that were not delivered: %d", undelivered)
    return undelivered


@dataclass(frozen=True)
class _Hours:
    """Until when alerts are sent, by a clock of seconds that only grow, and how the time is waited for."""

    end: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    @property
    def over(self) -> bool:
        return self.clock() >= self.end


class _Courier:
    """Carries the alerts of a bag through one channel, last in first out; :meth:`work` runs in several threads."""

    def __init__(
        self, channel: str, send: Send, bag: list[tuple[str, Alert]], notes: DeliveryNotes, hours: _Hours
    ) -> None:
        self.delivered = 0
        self._channel = channel
        self._send = send
        self._bag = bag
        self._notes = notes
        self._hours = hours
        self._lock = threading.Lock()
        self._failures_in_a_row = 0

    def work(self) -> None:
        for name, alert in self._take():
            sent = self._try(alert)
            with self._lock:
                self.delivered += sent
                self._failures_in_a_row = 0 if sent else self._failures_in_a_row + 1
            if sent:
                self._notes.add(name, self._channel)

    def _take(self) -> Iterator[tuple[str, Alert]]:
        while True:
            with self._lock:
                if not self._bag or self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                    return
                taken = self._bag.pop()
            yield taken

    def _try(self, alert: Alert) -> bool:
        for attempt in range(ATTEMPTS):
            if attempt:
                self._hours.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            if self._hours.over:
                break
            try:
                self._send(alert)
            except Exception as error:  # noqa: BLE001 - whatever a channel raises must not reach the pipeline
                log.error("alert was not delivered through %s: %s: %s", self._channel, type(error).__name__, error)
            else:
                return True
        return False
