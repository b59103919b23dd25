"""What the deployed orders API refuses, in which words, and what of it is left behind."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from lambdas.orders_api.models import MAX_BODY_BYTES
from tests.integration.conftest import Aws
from tests.integration.deployed_api import eventually
from tests.integration.orders import API_LOG, AUTHORIZER_LOG, OrdersApi, record
from tests.worlds.tokens import HS256, claims, forge

GOOD = record("good")
"""Stands beside what is wrong, and is stored by no test of this file."""


@pytest.fixture
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


@pytest.fixture
def api_that_stores_nothing(api: OrdersApi) -> Iterator[OrdersApi]:
    before = api.stored_ids()
    assert GOOD["record_id"] not in before
    yield api
    after = api.stored_ids()
    # For the next test, should this one fail.
    api.forget(GOOD["record_id"])
    assert after == before


def two(**fields: Any) -> list[dict[str, Any]]:
    """A record that is right and one that is wrong: neither may be stored."""
    return [GOOD, record("bad", **fields)]


def test_what_breaks_the_schema_is_named_and_nothing_is_stored(api_that_stores_nothing: OrdersApi) -> None:
    answer = api_that_stores_nothing.post(two(parameter_2="2.1"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_records")
    first = answer.json()["error"]["details"][0]
    assert (first["index"], first["field"]) == (1, "parameter_2")
    assert first["message"]


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 10_000_000])
def test_body_that_is_too_large_is_answered_with_413(api_that_stores_nothing: OrdersApi, size: int) -> None:
    answer = api_that_stores_nothing.post(json.dumps([GOOD]).encode().ljust(size))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(("method", "path"), [("GET", "/orders"), ("DELETE", "/orders"), ("POST", "/orders/1")])
def test_other_methods_and_paths_are_not_there(api: OrdersApi, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {api.token()}"}
    answer = httpx.request(method, f"{api.url}{path}", headers=headers, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"]) == (404, "not_found", [])
    assert error["request_id"]


def test_answers_lead_to_the_log(api: OrdersApi) -> None:
    token = api.token(sub="asks-support")
    answer = api.post(two(parameter_2=None), authorization=token)
    line = api.log_of(answer.json()["error"]["request_id"])
    assert (line["status"], line["subject"], line["service"]) == (422, "asks-support", "orders-api")
    assert line["duration_ms"] > 0


@pytest.fixture
def api_without_table(api: OrdersApi) -> Iterator[OrdersApi]:
    """The function is pointed to a table that does not exist."""
    with api.variables("orders-api", ORDERS_TABLE="orders-missing"):
        yield api
    eventually("records can be stored again", lambda: api.post([record("stored")]).status_code == 201)


def test_what_is_not_stored_is_named(api_without_table: OrdersApi) -> None:
    ids = [f"lost-{number}" for number in range(60)]
    answer = api_without_table.post([record(record_id) for record_id in ids])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "unavailable")
    assert error["details"] == {"stored": 0, "not_stored": ids}
    # To come back soon would not help.
    assert "retry-after" not in answer.headers
    assert "orders-missing" not in answer.text
    line = api_without_table.log_of(error["request_id"], "records not stored")
    assert (line["stored"], line["not_stored"], line["reasons"]) == (0, 60, ["ResourceNotFoundException"])


def test_neither_tokens_nor_bodies_are_logged(api: OrdersApi) -> None:
    planted = "planted-secret"
    key, token = api.key(), api.token(sub="logged-subject")
    forged = forge(HS256, claims(sub=planted), "k" * 64)
    requests: list[tuple[object, str]] = [
        ([record("logged", parameter_1=planted)], token),
        (two(**{planted: planted}), token),
        (two(parameter_2=planted), token),
        (two(record_id=f"{planted} {planted}"), token),
        (f"{planted}{{".encode(), token),
        ([record("stored")], forged),
        ([record("stored")], f"Basic {planted}"),
        ([record("stored")], f"Bearer {planted}.{planted}"),
    ]
    denied_before = _denials(api)
    answers = [api.post(body, authorization=authorization) for body, authorization in requests]
    assert [answer.status_code for answer in answers] == [201, 422, 422, 422, 400, 403, 403, 403]
    for answer in answers[1:5]:
        assert api.log_of(answer.json()["error"]["request_id"])["subject"] == "logged-subject"
    eventually("refused tokens are logged", lambda: _denials(api) - denied_before >= 3)
    for group in (API_LOG, AUTHORIZER_LOG):
        log = "\n".join(api.log(group))
        assert "logged-subject" in log
        for secret in (planted, key, token, token.rpartition(".")[2], forged):
            assert secret not in log


def _denials(api: OrdersApi) -> int:
    # The emulator may take a line only with the next call's; without a token, that one is no denial.
    api.invoke("orders-api-authorizer", {"methodArn": "arn:aws:execute-api:us-east-1:0:api/prod/POST/orders"})
    return sum('"denied"' in line for line in api.log(AUTHORIZER_LOG))
