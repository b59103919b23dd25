import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import time_machine
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.hooks import call_details
from airflow_ext.ids import CALL_DETAILS_INGEST, XComKey
from airflow_ext.tasks import call_details_ingest
from include.call_details.alerts import PLAN_TASK, POST_TASK
from include.call_details.keys import SHARED, idempotency_key, processing_key
from include.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    AuthRefusedError,
    AwsRefusedError,
    FileChangedError,
    FileHeldError,
    InvalidAnswerError,
    InvalidFileError,
    KeysChangedError,
    RunRefusedError,
    SettingsError,
    StorageUnavailableError,
    WorkFailedError,
)
from tests.dags.call_details import (
    KEY,
    LAST_TRY,
    RECONCILE_TASK,
    counts,
    drop,
    ingest,
    ingest_run,
    plan,
    post_chunk,
    reconcile,
    reconcile_fails,
)
from tests.worlds.call_details import ACCESS, SECRET, TOKEN, CallDetailsWorld, logged_in_as
from tests.worlds.pipeline import PLANTED, leaks
from tests.worlds.s3 import BUCKET, raising, s3_error

world = CallDetailsWorld.fixture()


def test_good_run_ends_quietly_and_updates_the_asset(world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    summary = ingest(run)
    assert sorted(world.posted(), key=str) == [[[2]], [{"a": 1}, {"data": "plain", "lineNumber": 2}]]
    assert counts(summary) == counts(world.receipt()) == (3, 3, 0)
    assert "ranges" not in summary
    assert world.s3.present("incoming/") + world.s3.present("processing/") == []
    (place,) = world.s3.present("processed/")
    assert world.receipt()["stored_as"] == place
    assert run.outlet_events[Asset(CALL_DETAILS_INGEST)].extra == {
        "bucket": BUCKET,
        "key": KEY,
        "etag": file.etag,
        "outcome": "processed",
        "records_read": 3,
        "records_accepted": 3,
        "records_dead_lettered": 0,
        "receipt": f"receipts/{KEY}.{file.etag}.json",
    }
    day = "-".join(place.split("/")[1:4])
    assert run.pushed(RECONCILE_TASK, XComKey.NOTE) == [
        "**3 of 3 records accepted: processed**",
        "",
        "- what to do: nothing",
        f"- more: [operations page](http://localhost:8080/plugin/operations/files?day={day})",
        f"- file: `{KEY}`",
        "- dead letters: 0",
        f"- lies at: `{place}`",
        f"- receipt: `receipts/{KEY}.{file.etag}.json`",
    ]
    values = {"FailedRuns": 0.0, "AcceptedRecords": 3.0, "DeadLetteredRecords": 0.0}
    assert world.metrics == [("call_details_ingest", values)]
    assert (world.wire.sns, world.wire.slack) == ([], [])


def test_mapped_tasks_get_numbers_and_a_name(world: CallDetailsWorld) -> None:
    drop(world)
    run = ingest_run(KEY)
    assert plan(run) == [0]
    context = run.context(POST_TASK, 0)
    assert call_details_ingest.post_chunk(context, 0) == {"accepted": 2, "dead_lettered": 0}
    assert context["label"] == "records 1-3"


def test_refused_batch_is_a_warning_and_the_run_a_success(world: CallDetailsWorld) -> None:
    file = drop(world)
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(422)]
    run = ingest_run(KEY)
    summary = ingest(run)
    assert (summary["outcome"], counts(summary)) == ("processed with dead letters", (3, 1, 2))
    (message,), (post,) = world.wire.sns, world.wire.slack
    assert (
        message["Subject"]
        == "[WARNING] call_details_ingest: 1 of 2 batches of incoming/? b+.txt could not be delivered"
    )
    assert "call_details_replay" in post["text"]
    assert run.pushed(RECONCILE_TASK, XComKey.ALERTED)["channels"] == ["slack", "sns"]
    assert world.metrics[0][1] == {"FailedRuns": 0.0, "AcceptedRecords": 1.0, "DeadLetteredRecords": 2.0}


def test_api_that_is_unavailable_to_the_last_try_costs_dead_letters_and_the_receipt_adds_up(
    world: CallDetailsWorld,
) -> None:
    file = drop(world, b"1\n" * 24)
    world.api.answers = {idempotency_key(file, number): [httpx.Response(503)] for number in range(12)}
    run = ingest_run(KEY)
    plan(run)
    with pytest.raises(ApiUnavailableError):
        post_chunk(run, 0, try_number=LAST_TRY - 1)
    assert world.sqs.bodies == []
    assert post_chunk(run, 0, try_number=LAST_TRY) == {"accepted": 0, "dead_lettered": 12}
    summary = reconcile(run)
    assert (summary["outcome"], counts(summary)) == ("processed with dead letters", (24, 0, 24))
    assert len(world.s3.present("dead-letter/")) == len(world.sqs.bodies) == 12
    assert len(world.wire.sns) == 1


def test_people_are_alerted_when_xcom_takes_nothing(world: CallDetailsWorld) -> None:
    file = drop(world)
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(422)]
    run = ingest_run(KEY)
    run.xcoms.refused = (XComKey.ALERTED,)
    for index in plan(run):
        post_chunk(run, index)
    run.xcoms.refused = ("return_value", XComKey.ALERTED)
    assert reconcile(run)["outcome"] is not None
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)


def test_settings_reach_the_api(world: CallDetailsWorld) -> None:
    world.change_settings(max_retries=2, max_records_per_batch=1)
    file = drop(world)
    world.api.answers[idempotency_key(file, 1)] = [httpx.Response(503)]
    ingest(ingest_run(KEY))
    assert world.api.keys == {idempotency_key(file, number): 2 if number == 1 else 1 for number in range(3)}


def test_file_that_cannot_be_read_fails_with_one_alert(world: CallDetailsWorld) -> None:
    drop(world, b"\x1f\x8b damaged", "incoming/x.gz")
    run = ingest_run("incoming/x.gz")
    with pytest.raises(InvalidFileError):
        plan(run)
    reconcile_fails(run, r"incoming/x\.gz ended unreadable: see receipts/")
    assert len(world.s3.present("failed/")) == 1
    assert "not gzip, or damaged" in world.receipt()["error"]
    (message,) = world.wire.sns
    assert message["Subject"] == "[ERROR] call_details_ingest: nothing of incoming/x.gz was posted"
    assert run.pushed(RECONCILE_TASK, "return_value")["outcome"] == "unreadable"
    assert run.outlet_events == {}
    assert world.metrics[0][1]["FailedRuns"] == 1.0


def test_file_that_was_ingested_before_posts_nothing_and_says_so(
    world: CallDetailsWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = drop(world)
    ingest(ingest_run(KEY))
    again = ingest_run(KEY, run_id="manual__2")
    with pytest.raises(AirflowSkipException, match=r"nothing was posted: run manual__1 .* give the param force"):
        ingest(again)
    assert len(world.api.posted) == 2
    assert again.pushed(RECONCILE_TASK, "return_value") == {
        "run_id": "manual__1",
        "receipt": f"receipts/{KEY}.{file.etag}.json",
        "records_dead_lettered": 0,
    }
    assert again.pushed(RECONCILE_TASK, XComKey.FAILURE) is None
    assert again.outlet_events == {}
    assert "was ingested by run manual__1: nothing is posted" in caplog.text


def test_run_for_a_file_with_dead_letters_says_that_they_are_to_be_replayed(world: CallDetailsWorld) -> None:
    file = drop(world)
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(422)]
    ingest(ingest_run(KEY))
    with pytest.raises(AirflowSkipException, match=r"this file but for 2 records, .* call_details_replay posts these"):
        ingest(ingest_run(KEY, run_id="manual__2"))


def test_plan_of_the_version_before_the_deployment_is_read(world: CallDetailsWorld) -> None:
    drop(world)
    ingest(ingest_run(KEY))
    again = ingest_run(KEY, run_id="manual__2")
    assert plan(again) == []
    del again.pushed(PLAN_TASK, XComKey.DONE)["records_dead_lettered"]
    with pytest.raises(AirflowSkipException, match="run manual__1 has ingested this file, see"):
        reconcile(again)


@pytest.mark.parametrize("by", ["key", "place"])
def test_force_posts_again_under_the_same_keys(by: str, world: CallDetailsWorld) -> None:
    drop(world)
    place = ingest(ingest_run(KEY))["stored_as"]
    summary = ingest(ingest_run(KEY if by == "key" else place, run_id="manual__2", force=True))
    assert counts(summary) == (3, 3, 0)
    assert list(world.api.keys.values()) == [2, 2]
    bodies = {request.content for request in world.api.posted}
    assert len(bodies) == 2, "the same batch is the same body, always"
    assert summary["stored_as"] == place


def test_note_and_alert_lead_to_the_day_of_the_file_s_key_on_whatever_day_the_run_ends(world: CallDetailsWorld) -> None:
    file = drop(world)
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(422)]
    first, later = ingest_run(KEY), ingest_run(KEY, run_id="manual__2", force=True)
    with time_machine.travel(datetime(2026, 3, 8, 23, 59, 59, tzinfo=UTC), tick=False):
        ingest(first)
    # As a task is tried again that died before it ended; and as somebody has the file posted again.
    reconcile(first)
    ingest(later)
    page = "http://localhost:8080/plugin/operations/files?day=2026-03-08"
    for run in (first, later):
        assert f"- more: [operations page]({page})" in run.pushed(RECONCILE_TASK, XComKey.NOTE)
    assert [page in message["Message"] for message in world.wire.sns] == [True] * 3


def test_cleared_run_posts_nothing_that_is_acknowledged(world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    plan(run)
    world.api._logins = [httpx.Response(401)]
    with pytest.raises(AuthRefusedError):
        post_chunk(run, 0)
    reconcile_fails(run, "ended incomplete")
    assert world.receipt()["outcome"] == "incomplete"
    assert world.s3.present("processing/") == [processing_key(file)]
    text = world.wire.slack[0]["text"]
    assert "only 0 of 3 records of incoming/ä b+.txt are accounted for" in text
    assert "- records 1 to 3 in post_chunk[0]: AuthRefusedError: login https://calls.test/api/login refused" in text
    # The next attempt is another process, which does not know that the keys were refused.
    call_details._shared_login.cache_clear()
    assert counts(ingest(run)) == (3, 3, 0)
    assert sorted(world.api.keys.values()) == [1, 1]


def test_cleared_run_goes_on_with_its_version_though_a_newer_one_was_dropped(world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    plan(run)
    reconcile_fails(run, "ended incomplete")
    drop(world, b"newer\n")
    summary = ingest(ingest_run(KEY))
    assert (summary["etag"], counts(summary)) == (file.etag, (3, 3, 0))
    assert world.s3.present("incoming/") == [KEY], "the newer one is the watcher's"


@pytest.mark.parametrize("token", ["none yet", "refused in mid-run"])
def test_keys_that_are_changed_meanwhile_cost_a_retry_and_not_the_run(token: str, world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    plan(run)

    def refuse(request: httpx.Request) -> httpx.Response:
        # The access key was put before the task began, the secret key is put now.
        world.ssm.parameters["/copyazure/secretkey"] = "new"
        return httpx.Response(401)

    world.api._logins = [refuse]
    if token != "none yet":
        world.api._logins.insert(0, httpx.Response(200, json={"token": "old"}))
        world.api.answers[idempotency_key(file, 1)] = [httpx.Response(401), httpx.Response(200)]
    with pytest.raises(KeysChangedError, match="they have been changed meanwhile"):
        post_chunk(run, 0)
    assert post_chunk(run, 0) == {"accepted": 2, "dead_lettered": 0}
    assert logged_in_as(world.api.login_requests[-1])["secretKey"] == "new"
    assert world.sqs.bodies == []


def test_killed_task_is_in_the_alert(world: CallDetailsWorld) -> None:
    drop(world)
    run = ingest_run(KEY)
    plan(run)
    reconcile_fails(run)
    assert "the task was killed or never ran" in world.wire.sns[0]["Message"]


def test_deleted_file_fails_clearly(world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    plan(run)
    world.s3.delete(processing_key(file))
    with pytest.raises(FileChangedError):
        post_chunk(run, 0)
    reconcile_fails(run)
    assert "FileChangedError: s3://ingest/processing/" in world.wire.sns[0]["Message"]
    assert world.api.posted == []


NO_FILES = pytest.mark.parametrize(
    "params",
    [
        {"key": "incoming/"},
        {"key": "incoming/absent.txt"},
        {"key": "processing/0123456789abcdef0123456789abcdef/gone.txt"},
        {"key": KEY, "etag": "other"},
        {"key": KEY, "etag": "other", "force": True},
        {"key": "processing/0123456789abcdef0123456789abcdef/gone.txt", "etag": "other"},
        {"key": KEY, "bucket": "no-such-bucket"},
        {"key": f"{SHARED}gone.json"},
        {"key": f"{SHARED}gone.json", "bucket": "no-such-bucket"},
    ],
    ids=str,
)


@NO_FILES
def test_person_who_names_no_file_is_refused_without_alert_and_nothing_is_claimed(
    params: dict[str, Any], world: CallDetailsWorld
) -> None:
    drop(world)
    run = ingest_run(**params)
    with pytest.raises(RunRefusedError, match=r"^params? (key|bucket)"):
        plan(run)
    with pytest.raises(RunRefusedError, match="plan refused the run, nothing was ingested: RunRefusedError: param"):
        reconcile(run)
    assert (world.wire.sns, world.wire.slack, world.metrics, world.table.items) == ([], [], [], {})
    assert world.s3.present() == [KEY]
    assert run.pushed(RECONCILE_TASK, XComKey.NOTE)[0].startswith(
        "**Refused, nothing was ingested: RunRefusedError: param"
    )
    assert run.pushed(RECONCILE_TASK, XComKey.ALERTED)["channels"] == ["refusal"], "or the failure callback would alert"


@NO_FILES
def test_run_that_nobody_watches_and_that_names_no_file_is_reported_once(
    params: dict[str, Any], world: CallDetailsWorld
) -> None:
    drop(world)
    run = ingest_run(**params)
    run.run_type = "operator_triggered"
    with pytest.raises((RunRefusedError, FileChangedError)):
        plan(run)
    reconcile_fails(run)
    (message,) = world.wire.sns
    assert "RunRefusedError" in message["Message"] or "is nowhere in bucket" in message["Message"]
    assert world.metrics[0][1]["FailedRuns"] == 1.0


def test_person_who_asks_for_a_file_that_another_run_has_is_refused_without_alert(world: CallDetailsWorld) -> None:
    drop(world)
    plan(ingest_run(KEY, run_id="first"))
    run = ingest_run(KEY)
    with pytest.raises(FileHeldError):
        plan(run)
    with pytest.raises(RunRefusedError, match="FileHeldError: run first works on"):
        reconcile(run)
    assert (world.wire.sns, world.wire.slack) == ([], [])


def test_person_learns_that_a_file_was_ingested_also_when_it_has_expired(world: CallDetailsWorld) -> None:
    drop(world)
    ingest(ingest_run(KEY, run_id="first"))
    (place,) = world.s3.present("processed/")
    del world.s3.objects[place]
    run = ingest_run(KEY)
    assert plan(run) == []
    with pytest.raises(AirflowSkipException, match="run first has ingested this file"):
        reconcile(run)
    with pytest.raises(RunRefusedError, match="is nowhere in bucket"):
        plan(ingest_run(KEY, run_id="manual__2", force=True))
    assert plan(ingest_run(KEY, run_id="manual__3")) == [], "it is done as before"


def test_file_that_is_deleted_before_its_run_begins_has_a_receipt_and_an_alert_that_say_so(
    world: CallDetailsWorld,
) -> None:
    file = drop(world)
    world.s3.delete(KEY)
    run = ingest_run(KEY, etag=file.etag)
    run.run_type = "operator_triggered"
    with pytest.raises(FileChangedError, match="was deleted at"):
        plan(run)
    reconcile_fails(run, "ended not planned")
    assert (world.receipt()["outcome"], world.receipt()["stored_as"]) == ("not planned", None)
    assert "was deleted at" in world.wire.sns[0]["Message"]


@pytest.mark.parametrize("state", ["failed", "upstream_failed", None, "success"])
def test_plan_that_was_killed_or_marked_by_hand_is_reported(state: str | None, world: CallDetailsWorld) -> None:
    run = ingest_run(KEY)
    run.states[PLAN_TASK] = state
    reconcile_fails(run, "nothing was ingested: plan failed: the task was killed")
    assert len(world.wire.sns) == 1


def test_plan_that_fails_for_a_while_leaves_the_file_to_its_retry(world: CallDetailsWorld) -> None:
    file = drop(world)
    run = ingest_run(KEY)
    world.s3.before["GetObject"] = raising(s3_error("SlowDown", "GetObject"))
    with pytest.raises(StorageUnavailableError):
        plan(run)
    del world.s3.before["GetObject"]
    reconcile_fails(run, "ended not planned")
    assert world.s3.present("processing/") == [processing_key(file)], "not under failed/: it was never looked at"
    assert counts(ingest(run)) == (3, 3, 0)


@pytest.mark.parametrize("missing", ["parameter", "connection"])
def test_missing_access_is_named(missing: str, world: CallDetailsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(world)
    run = ingest_run(KEY)
    plan(run)
    if missing == "parameter":
        del world.ssm.parameters["/copyazure/secretkey"]
        with pytest.raises(AwsRefusedError, match="SSM parameter /copyazure/secretkey"):
            post_chunk(run, 0)
    else:
        monkeypatch.setenv("AIRFLOW_CONN_CALL_DETAILS_API", '{"conn_type": "http"}')
        with pytest.raises(SettingsError, match=r"missing host .*, extra\.auth_url"):
            post_chunk(run, 0)


@pytest.mark.parametrize(
    "quoted",
    [
        httpx.Response(422, text=f"{SECRET} {ACCESS} {TOKEN} {PLANTED}"),
        httpx.Response(400, json={"secretKey": SECRET, "accessKey": ACCESS, "token": TOKEN, "records": [PLANTED]}),
        httpx.Response(500, text=repr({"secretKey": SECRET, "token": TOKEN}), headers={"X-Echo": quote(SECRET)}),
    ],
    ids=["text", "json", "repr and URL"],
)
def test_records_and_secrets_that_the_api_quotes_are_nowhere_to_be_seen_in_whatever_form(
    quoted: httpx.Response, world: CallDetailsWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = drop(world, b"%b\n%b\n3\n" % (json.dumps({"a": PLANTED}).encode(), PLANTED.encode()))
    world.api.answers[idempotency_key(file, 0)] = [quoted]
    run = ingest_run(KEY)
    ingest(run)
    documents = {
        key: world.s3.body(key).decode() for key in world.s3.present() if key.split("/")[0] in ("plans", "receipts")
    }
    assert len(documents) == 2
    everything = {
        "log": caplog.text,
        "sns": str(world.wire.sns),
        "slack": str(world.wire.slack),
        "queue": str(world.sqs.bodies),
        "ledger": str(world.table.items),
        "xcom": str(run.xcoms.values),
        **documents,
    }
    assert leaks(everything, PLANTED, ACCESS, SECRET, TOKEN) == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"error": f"no such key {ACCESS}", "sent": {"secretKey": SECRET}}),
        httpx.Response(200, json={"jwt": TOKEN, "secretKey": SECRET}),
        httpx.Response(400, text=repr({"accessKey": ACCESS, "secretKey": SECRET})),
        httpx.ConnectError(quote(SECRET)),
    ],
    ids=["refused", "no token", "bad request", "no connection"],
)
def test_keys_that_the_login_quotes_are_nowhere_to_be_seen_in_whatever_form(
    answer: httpx.Response | Exception, world: CallDetailsWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    drop(world)
    world.api._logins += [answer] * 3
    run = ingest_run(KEY)
    plan(run)
    with pytest.raises((AuthRefusedError, InvalidAnswerError, ApiRefusedError, ApiUnavailableError)) as caught:
        post_chunk(run, 0)
    with pytest.raises(WorkFailedError) as summed_up:
        reconcile(run)
    errors = "".join(traceback.format_exception(caught.value) + traceback.format_exception(summed_up.value))
    told = {"log": caplog.text, "sns": str(world.wire.sns), "slack": str(world.wire.slack), "errors": errors}
    assert leaks(told | {"xcom": str(run.xcoms.values), "ledger": str(world.table.items)}, ACCESS, SECRET, TOKEN) == []
