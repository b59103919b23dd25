"""Waits for a dropped file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.notifications.failure_callback import safe_text
from airflow_ext.outside import outside
from include.errors import describe

if TYPE_CHECKING:
    from include.call_details.keys import Incoming
    from include.call_details.storage import FileStore


class DroppedFileTrigger(BaseTrigger):
    """Fires when a file is there to be taken, or S3 fails.

    The provider's trigger knows patterns of what to find, and none of what to leave: it would fire again and again for
    an upload that is under way. Prefix and ignored names are as in :class:`include.call_details.keys.Incoming`.
    """

    def __init__(self, bucket: str, prefix: str, ignored: list[str], poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.bucket = bucket
        self.prefix = prefix
        self.ignored = ignored
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class, and its arguments."""
        arguments = {name: getattr(self, name) for name in ("bucket", "prefix", "ignored", "poke_interval")}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once, as the provider's trigger does."""
        from include.call_details.keys import Incoming

        incoming = Incoming(self.prefix, tuple(self.ignored))
        try:
            store = await asyncio.to_thread(open_store, self.bucket)
            while not await asyncio.to_thread(file_is_there, store, incoming):
                await outside.pause(self.poke_interval)
        except Exception as error:  # noqa: BLE001 - the task fails with it, and is retried
            yield TriggerEvent({"status": "error", "message": safe_text(describe(error))})  # type: ignore[no-untyped-call]
        else:
            yield TriggerEvent({"status": "success"})  # type: ignore[no-untyped-call]


def open_store(bucket: str) -> FileStore:
    """A bucket, by connection ``aws_default``."""
    from airflow_ext.hooks.aws import s3_client
    from include.call_details.storage import FileStore

    return FileStore(s3_client(), bucket)


def file_is_there(store: FileStore, incoming: Incoming) -> bool:
    """Whether a file is there to be taken."""
    return any(incoming.takes(found.key) for found in store.listed(incoming.prefix))
