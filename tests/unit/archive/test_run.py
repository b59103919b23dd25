import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from typing import Any

import httpx
import pytest

from include.archive.keys import archive_key, run_manifest_key
from include.archive.ledger import sha256
from include.archive.models import Client, Plan, cut
from include.archive.run import ArchiveRun, save_plan
from include.clients.dex import DexApi
from include.errors import RetryableFailuresError, StorageRefusedError, WorkFailedError
from tests.worlds.archive import BASE_URL, CREDENTIALS, FakeDex
from tests.worlds.s3 import FakeS3

DAY = date(2026, 3, 8)
RUN_FILES = "runs/trigger/20260308/run%201/"


def plan_run(s3: FakeS3, count: int = 6, *, clear_number: int = 0, max_tasks: int = 2) -> str:
    """Plan a run; returns where the plan lies."""
    clients = tuple(Client(number, f"Client {number}") for number in range(1, count + 1))
    slices = cut(clients, max_tasks=max_tasks, clients_per_task=3)
    plan = Plan("run 1", clear_number, DAY, False, 2, BASE_URL, clients, slices)
    return save_plan(s3, s3.bucket, plan)


def reopened(s3: FakeS3) -> ArchiveRun:
    """The run as a task gets it: by the place of its newest plan alone."""
    newest = max(key for key in s3.present(RUN_FILES) if key.endswith("/plan.json"))
    return ArchiveRun.load(f"s3://archive/{newest}", s3)


def do_slice(s3: FakeS3, dex: FakeDex, index: int, *, clear_number: int = 0, **options: float) -> None:
    run = reopened(s3)
    api = DexApi(run.plan.base_url, CREDENTIALS, http=dex.http)
    signed = s3
    run.archive_slice(run.plan.slices[index], api, signed, clear_number=clear_number, **options)


def account(
    s3: FakeS3,
    why: Callable[[int], str | None] = lambda index: None,
    *,
    clear_number: int = 0,
    succeeded: Iterable[int] = (),
) -> dict[str, Any]:
    run = reopened(s3)
    key, manifest = run.account(clear_number=clear_number, succeeded=succeeded, why_no_outcome=why)
    document: dict[str, Any] = json.loads(s3.bodies(run_manifest_key(DAY, run.plan.run_id))[-1] or b"")
    assert document == manifest.to_document()
    day = json.loads(s3.bodies(key)[-1] or b"")
    assert day["clients"] == document["clients"]
    return document


def test_good_run_leaves_plan_answers_manifests_and_an_entry() -> None:
    s3, dex = FakeS3(), FakeDex()
    assert plan_run(s3) == f"s3://archive/{s3.keys(RUN_FILES)[0]}"
    assert [piece.size for piece in reopened(s3).plan.slices] == [3, 3]
    do_slice(s3, dex, 0)
    do_slice(s3, dex, 1)
    document = account(s3)
    assert (document["total_clients"], document["successful_archives"]) == (6, 6)
    assert s3.keys("manifests/") == ["manifests/trigger/20260308.json", "manifests/trigger/20260308/run%201.json"]
    assert s3.keys("ledger/") == ["ledger/trigger/00000001.json"]
    assert s3.bodies(archive_key(4, DAY)) == [b'{"client": 4}']
    assert sorted(dex.clients_asked) == [1, 2, 3, 4, 5, 6]
    assert len(dex.logins) == 2, "one a task"


def test_end_of_a_run_logs_the_digest_that_proves_the_whole_ledger(caplog: pytest.LogCaptureFixture) -> None:
    s3 = FakeS3()
    plan_run(s3)
    do_slice(s3, FakeDex(), 0)
    with caplog.at_level("INFO", logger="include.archive.run"):
        account(s3)
    digest = sha256(s3.bodies("ledger/trigger/00000001.json")[0] or b"")
    place = "s3://archive/manifests/trigger/20260308/run%201.json"
    assert f"entry 1 of the ledger has sha256 {digest}: {place}" in caplog.messages


def test_mixed_failures_are_retried_with_the_longest_wait_asked_for() -> None:
    s3 = FakeS3()
    plan_run(s3)
    dex = FakeDex(
        answers={
            1: httpx.Response(429, headers={"Retry-After": "5"}),
            2: httpx.Response(503, headers={"Retry-After": "20"}),
            3: httpx.Response(404),
        }
    )
    with pytest.raises(RetryableFailuresError, match="3 of 3 clients failed: client 1: DEX API") as caught:
        do_slice(s3, dex, 0, max_pause=0.01)
    assert caught.value.retry_after == 20.0
    retry = FakeDex()
    with pytest.raises(WorkFailedError, match="1 of 3 clients failed: client 3: DEX API answered 404"):
        do_slice(s3, retry, 0)
    assert sorted(retry.clients_asked) == [1, 2]
    assert [error["client_id"] for error in account(s3)["errors"]][:1] == [3]


def test_long_list_of_failures_is_cut_short() -> None:
    s3 = FakeS3()
    plan_run(s3, 60, max_tasks=1)
    dex = FakeDex(answers=dict.fromkeys(range(1, 61), httpx.Response(404)))
    with pytest.raises(WorkFailedError, match=r"60 of 60 .*; and 57 more"):
        do_slice(s3, dex, 0)


def test_task_that_never_ran_is_accounted_for() -> None:
    s3 = FakeS3()
    plan_run(s3)
    do_slice(s3, FakeDex(), 0)
    document = account(s3, lambda index: f"slice {index} was killed")
    assert document["failed_archives"] == 3
    assert {error["error"] for error in document["errors"]} == {"slice 1 was killed"}


class Killed(BaseException):
    """The process is gone."""


class DyingS3(FakeS3):
    """Storage as a task sees it that dies before its n-th request, or before that is answered."""

    def __init__(self, storage: FakeS3, at: int, *, taken_in: bool) -> None:
        super().__init__(storage.bucket)
        self.objects = storage.objects
        self.requests = 0
        self._at, self._taken_in = at, taken_in

    @property
    def dead(self) -> bool:
        return self.requests > self._at

    def put_object(self, **request: Any) -> dict[str, Any]:
        answer = super().put_object(**request) if self._taken_in and self.requests == self._at else None
        self._step()
        return answer or super().put_object(**request)

    def head_object(self, **request: Any) -> dict[str, Any]:
        self._step()
        return super().head_object(**request)

    def get_object(self, **request: Any) -> dict[str, Any]:
        self._step()
        return super().get_object(**request)

    def _step(self) -> None:
        self.requests += 1
        if self.dead:
            raise Killed


@pytest.mark.parametrize("taken_in", [False, True], ids=["before a write", "before its answer"])
@pytest.mark.parametrize("changed", [False, True], ids=["first answers", "changed answers"])
def test_task_that_dies_at_any_request_keeps_each_answer_once(taken_in: bool, changed: bool) -> None:
    answers = {number: httpx.Response(200, text=f'{{ "n": {number} }}') for number in (1, 2, 3)}
    for at in itertools.count():
        s3 = FakeS3()
        plan_run(s3)
        if changed:
            do_slice(s3, FakeDex(), 0)
            plan_run(s3)
        before = {number: s3.bodies(archive_key(number, DAY)) for number in answers}
        dying = DyingS3(s3, at, taken_in=taken_in)
        with suppress(Killed, BaseExceptionGroup):
            do_slice(dying, FakeDex(answers=answers), 0, clear_number=int(changed))
        if dying.dead:
            do_slice(s3, FakeDex(answers=answers), 0, clear_number=int(changed))
        after = {number: s3.bodies(archive_key(number, DAY)) for number in answers}
        assert after == {number: [*before[number], answers[number].content] for number in answers}, at
        if not dying.dead:
            assert at >= 2 * len(answers), "it died at no request"
            return


def test_run_that_is_planned_again_forgets_older_outcomes() -> None:
    s3 = FakeS3()
    plan_run(s3)
    do_slice(s3, FakeDex(), 0)
    do_slice(s3, FakeDex(), 1)
    plan_run(s3, clear_number=1)
    do_slice(s3, FakeDex(), 0, clear_number=1)
    document = account(s3, clear_number=1, succeeded=[0])
    assert [client["outcome"] for client in document["clients"]] == ["unchanged"] * 3 + ["failed"] * 3


def test_run_that_was_deleted_and_started_anew_under_its_id_asks_for_every_client_again() -> None:
    s3 = FakeS3()
    plan_run(s3)
    with pytest.raises(WorkFailedError):
        do_slice(s3, FakeDex(answers={2: httpx.Response(404)}), 0)
    plan_run(s3)
    again = FakeDex(answers={1: httpx.Response(200, text="[1]")})
    do_slice(s3, again, 0)
    outcomes = [line["outcome"] for line in account(s3, succeeded=[0])["clients"]]
    assert outcomes[:3] == ["updated", "archived", "unchanged"]
    assert sorted(again.clients_asked) == [1, 2, 3]


def test_cleared_task_alone_does_its_part_again() -> None:
    s3 = FakeS3()
    plan_run(s3)
    do_slice(s3, FakeDex(), 0)
    do_slice(s3, FakeDex(answers={5: httpx.Response(200, text="[5]")}), 1)
    again = FakeDex(answers={5: httpx.Response(200, text="[55]")})
    do_slice(s3, again, 1, clear_number=1)
    outcomes = [line["outcome"] for line in account(s3, clear_number=1, succeeded=[0, 1])["clients"]]
    assert outcomes == ["archived"] * 3 + ["unchanged", "updated", "unchanged"]


def test_cleared_task_that_dies_at_once_is_a_failure_though_its_first_life_was_good() -> None:
    s3 = FakeS3()
    plan_run(s3)
    do_slice(s3, FakeDex(), 0)
    do_slice(s3, FakeDex(), 1)
    assert account(s3, succeeded=[0, 1])["failed_archives"] == 0
    document = account(s3, lambda index: f"slice {index} was killed", clear_number=1, succeeded=[0])
    assert [error["client_id"] for error in document["errors"]] == [4, 5, 6]
    assert {error["error"] for error in document["errors"]} == {"slice 1 was killed"}


def test_empty_run_has_a_manifest_too() -> None:
    s3 = FakeS3()
    plan_run(s3, 0)
    document = account(s3)
    assert (document["total_clients"], document["clients"]) == (0, [])


def test_plan_that_is_gone_says_how_to_make_it_again() -> None:
    s3 = FakeS3()
    uri = plan_run(s3)
    s3.delete(uri.removeprefix("s3://archive/"))
    with pytest.raises(StorageRefusedError, match="clear list_clients"):
        ArchiveRun.load(uri, s3)
