"""Alerts that a channel did not take, kept in S3 until it does (spec: platform, Alerts).

::

    alerts/undelivered/<channel>/<digest>.json      in the bucket of the order results

Bounded in number, age and time spent. Delivery is at least once: a task that is killed between sending and deleting
leaves an alert that is sent again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING

from include.alerts import Alert, Failure, Send, Severity
from include.clients.s3 import CONDITION_FAILED, MISSING, create_json, get_object, json_bytes, put_object, s3_errors
from include.errors import Backoff, describe
from include.text import UNREADABLE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

PREFIX = "alerts/undelivered/"
MOST_WAITING = 500
"""More than these are not kept for a channel: one that is down for so long is known to be."""
MOST_AT_ONCE = 20
"""Sent by one run, as it has other things to do."""
MAX_AGE_SECONDS = 3 * 86_400
SECONDS = 10.0
"""For which one run sends."""
PAUSES = Backoff(first=60.0, longest=3600.0, jitter=0)
"""From one attempt for an alert to the next."""


class Outbox:
    """The alerts that wait; none of its methods raises, as an alert must not hide what it is about."""

    def __init__(self, s3: Callable[[], S3Client], bucket: str, *, clock: Callable[[], float] = time.time) -> None:
        self._open_s3 = s3
        self._bucket = bucket
        self._clock = clock

    def put(self, channel: str, *alerts: Alert) -> list[Alert]:
        """Keep alerts for a channel, and return those that are kept; one that was kept before stays as it is."""
        kept: list[Alert] = []
        try:
            room = MOST_WAITING - len(self._keys(channel))
            for alert in alerts[: max(room, 0)]:
                document = {"alert": asdict(alert), "attempts": 1, "put_at": self._clock(), "due_at": self._due_at(1)}
                digest = hashlib.sha256(json.dumps(document["alert"], sort_keys=True).encode()).hexdigest()
                create_json(self._s3, self._bucket, f"{PREFIX}{channel}/{digest[:32]}.json", document)
                kept.append(alert)
        except Exception as error:  # noqa: BLE001 - see the class
            log.warning("alerts that %s did not take were not kept: %s", channel, describe(error))
        if len(kept) < len(alerts):
            log.warning("%d alerts that %s did not take are lost", len(alerts) - len(kept), channel)
        return kept

    def send(self, channels: Callable[[], Mapping[str, Send]]) -> int:
        """Send what is due, and return how many alerts wait afterwards for channels that there are.

        A channel that refuses one is left alone until the next call. Channels are opened only if something waits. What
        waits for a channel that nobody has configured any more is left to S3, which lets it expire.
        """
        waiting = 0
        try:
            found = self._keys()
            opened = channels() if found else {}
            # In turn: many that wait for one channel keep none for another waiting.
            turns = zip_longest(*([key for key in found if _channel_of(key) == channel] for channel in opened))
            keys = [key for turn in turns for key in turn if key is not None]
            waiting = len(keys)
            end, refused, sent = self._clock() + SECONDS, set[str](), 0
            for key in keys:
                if (channel := _channel_of(key)) in refused:
                    continue
                if sent >= MOST_AT_ONCE or self._clock() >= end:
                    break
                try:
                    alert = self._claim(key)
                except UNREADABLE as error:
                    log.warning("%s holds no alert: %s", key, type(error).__name__)
                    continue
                if alert is None:
                    continue
                try:
                    opened[channel](alert)
                except Exception as error:  # noqa: BLE001 - see the class
                    log.warning("alerts wait for %s: %s", channel, describe(error))
                    refused.add(channel)
                    continue
                self._s3.delete_object(Bucket=self._bucket, Key=key)
                log.info("alert about run %s delivered late through %s", alert.run_id, channel)
                sent, waiting = sent + 1, waiting - 1
        except Exception as error:  # noqa: BLE001 - see the class
            log.warning("alerts that wait were not sent: %s", describe(error))
        return waiting

    @functools.cached_property
    def _s3(self) -> S3Client:
        return self._open_s3()

    def _claim(self, key: str) -> Alert | None:
        """The alert, if it is due and no other run sends it; its next attempt is set beforehand."""
        if (found := get_object(self._s3, self._bucket, key)) is None:
            return None
        document, now = json.loads(found[0]), self._clock()
        if now >= document["put_at"] + MAX_AGE_SECONDS:
            log.warning("alert %s was not delivered in three days and is given up", key)
            self._s3.delete_object(Bucket=self._bucket, Key=key)
            return None
        if now < document["due_at"]:
            return None
        document |= {"attempts": document["attempts"] + 1, "due_at": self._due_at(document["attempts"] + 1)}
        body, lost, etag = json_bytes(document), CONDITION_FAILED | MISSING, found[1]["ETag"]
        if put_object(self._s3, self._bucket, key, body, none_for=lost, IfMatch=etag) is None:
            return None
        saved = document["alert"]
        failures = [Failure(**failure) for failure in saved["failures"]]
        return Alert(**saved | {"severity": Severity(saved["severity"]), "failures": failures})

    def _due_at(self, attempts: int) -> float:
        return self._clock() + PAUSES.seconds(attempts)

    def _keys(self, channel: str = "") -> list[str]:
        """Of what waits for one channel, or for all."""
        prefix = f"{PREFIX}{channel}/" if channel else PREFIX
        # One page holds as many as may wait for both.
        with s3_errors(f"list s3://{self._bucket}/{prefix}"):
            return [
                item["Key"] for item in self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix).get("Contents", [])
            ]


def _channel_of(key: str) -> str:
    return key.removeprefix(PREFIX).partition("/")[0]
