"""The code: what cannot be imported, and the numbers in it that the checks compare."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, TypeGuard

PACKAGES = ("include", "airflow_ext")


def import_all() -> dict[str, str]:
    """Import every module; the errors of those that cannot be, by name."""
    errors = {}
    for package in PACKAGES:
        for name in _names(package):
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - whatever a module raises is told
                errors[name] = f"{type(error).__name__}: {error}"
    return errors


def _names(package: str) -> Iterator[str]:
    yield package
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda name: None):
        yield module.name


def constants() -> dict[str, float]:
    """Every number that a module calls a constant, and every default of a dataclass, by dotted name."""
    found: dict[str, float] = {}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            found |= {f"{name}.{key}": value for key, value in _numbers(module)}
    return found


def _numbers(module: ModuleType) -> Iterator[tuple[str, float]]:
    for key, value in vars(module).items():
        if key.isupper() and _is_number(value):
            yield key, value
        elif isinstance(value, type) and value.__module__ == module.__name__ and "__dataclass_fields__" in vars(value):
            for field in dataclasses.fields(value):
                if _is_number(field.default):
                    yield f"{key}.{field.name}", field.default


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def settings_fields() -> dict[str, dict[str, float | None]]:
    """The settings that are numbers: default, least and most."""
    from airflow_ext.settings import Settings

    found = {}
    for name, field in Settings.model_fields.items():
        if _is_number(field.default):
            bounds: dict[str, float | None] = {"default": field.default, "most": None, "least": None}
            for rule in field.metadata:
                bounds["most"] = getattr(rule, "le", bounds["most"])
                bounds["least"] = getattr(rule, "ge", bounds["least"])
            found[name] = bounds
    return found


class Recorder:
    """Stands in for a session of AWS: a client is what it was to be made with."""

    def client(self, service: str, config: Any) -> Any:
        """The configuration itself."""
        return config


def clients() -> dict[str, dict[str, float]]:
    """Time-outs (s), attempts and connections of the clients that tasks use."""
    aws = importlib.import_module("airflow_ext.hooks.aws")
    session = Recorder()
    made = {
        "lambda": aws.lambda_client(session=session),
        "s3": aws.s3_client(session=session),
        "quick": aws.quick_client("sqs", session=session),
    }
    return {
        name: {
            "connect": config.connect_timeout,
            "read": config.read_timeout,
            "attempts": config.retries["total_max_attempts"],
            "pool": config.max_pool_connections,
        }
        for name, config in made.items()
    }


def references() -> dict[str, int]:
    """Bytes of one reference in the XCom that a task is mapped over, at its longest, by the task that returns it."""
    from airflow_ext.auction_wait import Work
    from airflow_ext.ingest_watch import _Run, _start
    from include.archive.keys import plan_key
    from include.archive.plan import cut
    from include.archive.roster import Client
    from include.auction.keys import orders_key
    from include.ingest.claim import FileVersion

    bucket, run_id = "b" * 63, "manual__2026-03-08T05:30:00.000000+00:00_" + "r" * 60
    day = datetime(2026, 3, 8, tzinfo=UTC).date()
    (piece,) = cut([Client(2**31, "c"), Client(2**31 + 1, "d")], max_tasks=1, clients_per_task=2)
    plan = {"plan": f"s3://{bucket}/{plan_key(day, run_id)}", **dataclasses.asdict(piece)}
    orders = Work(orders=f"s3://{bucket}/{orders_key(day, run_id)}", start=9_998, stop=9_999, concurrency=64)
    # The longest key that S3 takes.
    file = FileVersion(bucket, "incoming/" + "k" * 1015, "e" * 36)
    return {
        "dex_trigger_archive.list_clients": len(json.dumps(plan)),
        "energy_auction.wait_for_results": len(json.dumps(orders)),
        "call_details_watch.claim_files": len(json.dumps(_start(file, _Run.MISSING))),
    }
