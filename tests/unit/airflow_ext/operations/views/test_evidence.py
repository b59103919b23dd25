"""Evidence: the strip of a client, one answer, its body, its proof."""

import hashlib
import io
import json
import zipfile
from datetime import date, timedelta

import pytest
from airflow.models import Log
from airflow.utils.session import create_session
from sqlalchemy import select

from include.archive.keys import archive_key
from tests.worlds.operations import TODAY, OperationsPage
from tests.worlds.s3 import raising, unreachable

DAY = date(2026, 3, 2)
AT = f"/evidence/clients/1000/days/{DAY}"


def states(page: OperationsPage, client: int) -> dict[str, str]:
    return {each["day"]: each["state"] for each in page.get(f"/evidence/clients/{client}")["days"]}


def version(page: OperationsPage, at: str = AT) -> str:
    return page.get(at)["versions"][0]["version_id"]


def test_strip_distinguishes_what_became_of_each_day(page: OperationsPage) -> None:
    page.archive(date(2026, 3, 1), {1000: b'{"a": 1}', 1001: b"{}"})
    page.archive(date(2026, 3, 2), {1000: b"[]", 1001: "DEX API answered 503"})
    page.archive(date(2026, 3, 3), {1000: b'{"a": 1}'})
    page.archive(date(2026, 3, 3), {1000: b'{"a": 2}'}, run="r2")
    one, other = states(page, 1000), states(page, 1001)
    assert [one[f"2026-03-0{day}"] for day in (1, 2, 3, 4)] == ["archived", "empty", "changed", "missing"]
    assert [other[f"2026-03-0{day}"] for day in (1, 2, 3, 4)] == ["empty", "failed", "not selected", "missing"]
    assert len(one) == 365
    assert max(one) == TODAY.isoformat()


def test_year_of_a_client_takes_few_calls(page: OperationsPage) -> None:
    for back in range(30):
        page.archive(TODAY - timedelta(days=back), {1000: b"{}", 1001: b"{}" if back % 2 else "DEX API answered 503"})
    assert int(page.ask("/evidence/clients/1000").headers["x-aws-calls"]) <= 3
    assert int(page.ask("/evidence/clients/1001").headers["x-aws-calls"]) <= 3 + 2 * 15


def test_clients_are_found_by_id_and_by_any_part_of_the_name(page: OperationsPage) -> None:
    page.archive(DAY, {100: b"{}", 1000: b"{}", 2100: b"{}"}, name="Grünes Netz <b>")
    found = page.get("/evidence/clients?q=100")["rows"]
    assert [row["client_id"] for row in found] == [100, 1000, 2100]
    assert page.get("/evidence/clients?q=NETZ %3Cb%3E 21")["rows"] == [
        {"client_id": 2100, "client_name": "Grünes Netz <b> 2100"}
    ]


def test_list_has_25_clients_a_page(page: OperationsPage) -> None:
    page.archive(DAY, dict.fromkeys(range(1000, 1030), b"{}"))
    first = page.get("/evidence/clients")
    assert (len(first["rows"]), first["total"], first["next"]) == (25, 30, 25)
    second = page.get("/evidence/clients?cursor=25")
    assert [row["client_id"] for row in second["rows"]] == [*range(1025, 1030)]
    assert second["next"] is None


@pytest.mark.parametrize("client", [-5, 2**53 + 1, 2**63 - 1])
def test_client_of_any_id_that_a_database_has_is_found_under_it(page: OperationsPage, client: int) -> None:
    page.archive(DAY, {client: b"{}", 1000: "DEX API answered 503"})
    # A browser rounds what is longer.
    shown = client if client < 2**53 else str(client)
    assert shown in [row["client_id"] for row in page.get("/evidence/clients")["rows"]]
    assert page.get(f"/evidence/clients/{client}")["client_id"] == shown
    assert page.get(f"/evidence/clients/{client}/days/{DAY}")["outcome"] == "archived"
    assert page.get(f"/days/plan?first={DAY}&last={DAY}&client={client}")["there"] == 1


def test_answer_has_its_digest_recomputed_and_every_version(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b'{"a": 1}'}, run="r1")
    page.archive(DAY, {1000: b'{"a": 2}'}, run="r2")
    found = page.get(AT)
    assert found["key"] == archive_key(1000, DAY)
    assert (found["outcome"], found["run_id"], found["client_name"]) == ("updated", "r2", "Client 1000")
    digests = [hashlib.sha256(body).hexdigest() for body in (b'{"a": 2}', b'{"a": 1}')]
    assert [(each["sha256"], each["as_stored"]) for each in found["versions"]] == [(digest, True) for digest in digests]


def test_answer_that_is_not_what_was_stored_is_seen(page: OperationsPage) -> None:
    noted = {"sha256": hashlib.sha256(b"{}").hexdigest()}
    page.s3.put_object(Bucket="archive", Key=archive_key(1000, DAY), Body=b'{"forged": 1}', Metadata=noted)
    assert page.get(AT)["versions"][0]["as_stored"] is False


def test_day_that_failed_says_why(page: OperationsPage) -> None:
    page.archive(DAY, {1000: "DEX API answered 503"})
    found = page.get(AT)
    assert (found["versions"], found["reason"], found["outcome"]) == ([], "DEX API answered 503", "failed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 1.00000000000000000001, "n": 123456789012345678901234567890}',
        '{"x": "<script>alert(1)</script>\\u202e\\u0000", "y": "ß"}'.encode(),
        json.dumps({"long": "x" * 1_000_000}).encode(),
        b'\xef\xbb\xbf{"mark": [1, 2]}',
    ],
    ids=["digits", "markup", "a megabyte", "byte order mark"],
)
def test_body_is_shown_with_each_of_its_characters(page: OperationsPage, body: bytes) -> None:
    page.archive(DAY, {1000: body})
    found = page.get(f"{AT}/body?version={version(page)}", user="auditor")
    assert found["text"].encode() == body
    assert "".join(found["pretty"].split()) == "".join(body.decode().split())
    downloaded = page.ask(f"{AT}/download?version={version(page)}", user="auditor")
    assert downloaded.content == body
    assert downloaded.headers["content-disposition"] == 'attachment; filename="1000_trigger_20260302.json"'


def test_body_of_another_encoding_is_shown_as_text(page: OperationsPage) -> None:
    page.archive(DAY, {1000: '{"name": "Zażółć"}'.encode("utf-16")})
    assert page.get(f"{AT}/body?version={version(page)}", user="auditor")["text"] == '{"name": "Zażółć"}'


def test_versions_are_compared_line_by_line(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b'{"a": 1, "b": 2}'}, run="r1")
    page.archive(DAY, {1000: b'{"a": 1, "b": 3}'}, run="r2")
    newest, before = (each["version_id"] for each in page.get(AT)["versions"])
    lines = page.get(f"{AT}/difference?version={newest}&other={before}")["lines"]
    assert [line for line in lines if line.startswith(("+ ", "- "))] == ['-  "b": 2', '+  "b": 3']


def test_version_that_is_not_there_is_404(page: OperationsPage) -> None:
    assert page.ask(f"{AT}/body?version=v9").status_code == 404
    assert page.ask(f"{AT}/download?version=v9").status_code == 404
    assert page.ask(f"{AT}/proof").status_code == 404


def test_proof_is_the_zip_of_the_command_line(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b'{"a": 1}'})
    answer = page.ask(f"{AT}/proof", user="auditor")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as proof:
        names = proof.namelist()
    assert {"README.txt", "sha256sums", "ledger/00000001.json", "manifests/00000001.json"} <= set(names)


def test_proof_of_a_ledger_that_was_changed_says_what_to_do(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b'{"a": 1}'})
    page.s3.put_object(Bucket="archive", Key="ledger/trigger/00000001.json", Body=b"forged")
    answer = page.ask(f"{AT}/proof", user="auditor")
    assert (answer.status_code, "ops evidence verify" in answer.text) == (404, True)


def test_each_look_at_a_body_is_in_the_audit_log(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b'{"secret": "of the partner"}'})
    seen = version(page)
    page.get(f"{AT}/body?version={seen}", user="auditor")
    page.ask(f"{AT}/body?version={seen}", user="viewer")
    with create_session() as session:
        rows = session.scalars(select(Log).where(Log.event == "operations.evidence").order_by(Log.id.desc())).all()
        newest = rows[0]
        assert newest.owner == "auditor"
        assert json.loads(newest.extra or "") == {
            "client": "1000",
            "day": "2026-03-02",
            "version": seen,
            "method": "GET",
        }


def test_s3_that_cannot_be_reached_is_a_strip_and_no_error(page: OperationsPage) -> None:
    page.s3.before = dict.fromkeys(
        ("ListObjectVersions", "ListObjectsV2", "GetObject", "HeadObject"), raising(unreachable())
    )
    for path in ("/evidence/clients", "/evidence/clients/1000", AT, "/days", "/days/2026-03-02"):
        found = page.get(path)
        assert found["strips"] == ["S3 cannot be reached from Airflow's server (EndpointConnectionError)"]
    # A service that was not reached is not tried again in the same request.
    assert (page.s3.calls["ListObjectVersions"], page.s3.calls["ListObjectsV2"]) == (2, 3)
    assert page.ask(f"{AT}/proof").status_code == 503


def test_answer_is_kept_for_half_a_minute_unless_asked_anew(page: OperationsPage) -> None:
    page.archive(DAY, {1000: b"{}"})
    first = page.ask(AT)
    assert int(first.headers["x-aws-calls"]) > 0
    again = page.ask(AT, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["x-aws-calls"]) == (304, "0")
    anew = page.ask(AT, headers={"Cache-Control": "no-cache"})
    assert int(anew.headers["x-aws-calls"]) > 0
