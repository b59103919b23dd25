"""What the deployed orders API stores."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from threading import Barrier

import httpx
import pytest

from lambdas.orders_api.models import MAX_BODY_BYTES, MAX_RECORDS
from tests.integration.conftest import Aws
from tests.integration.orders import OrdersApi, record

DAY_SECONDS = 86_400


@pytest.fixture
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


def with_number(record_id: str, literal: str) -> bytes:
    return f'[{{"record_id": "{record_id}", "parameter_1": "", "parameter_2": {literal}}}]'.encode()


def test_token_of_the_tool_opens_the_api_and_the_record_is_there_for_a_day(api: OrdersApi) -> None:
    before = int(time.time())
    answer = api.post([record("of-the-tool")], authorization=f"Bearer {api.issued_token()}")
    after = int(time.time())
    assert answer.status_code == 201, answer.text
    assert answer.json()["stored"] == 1
    assert answer.json()["expires_at"].endswith("Z")
    expires = int(datetime.fromisoformat(answer.json()["expires_at"]).timestamp())
    assert before + DAY_SECONDS <= expires <= after + DAY_SECONDS
    assert api.stored("of-the-tool") == {
        "record_id": {"S": "of-the-tool"},
        "parameter_1": {"S": "abc"},
        "parameter_2": {"N": "2.1"},
        "ttl": {"N": str(expires)},
    }


@pytest.mark.parametrize(
    "literal",
    [
        "2.1",
        "1.50",
        "-1e-130",
        "9.9999999999999999999999999999999999999e125",
        "-0.12345678901234567890123456789012345678",
        "0e999999999",
    ],
)
def test_number_is_stored_as_it_was_written(api: OrdersApi, literal: str) -> None:
    answer = api.post(with_number("number", literal))
    assert answer.status_code == 201, answer.text
    item = api.stored("number")
    assert Decimal(item["parameter_2"]["N"]) == Decimal(literal)


@pytest.mark.parametrize("text", ["", "\U0001f600" * 1024, "e\u0301 \u00e9", "\x00\x1f\u2028\ufeff"])
def test_text_is_stored_as_it_was_sent(api: OrdersApi, text: str) -> None:
    for body in (
        json.dumps([record("text", parameter_1=text)], ensure_ascii=ascii).encode() for ascii in (True, False)
    ):
        assert api.post(body).status_code == 201
    item = api.stored("text")
    assert item["parameter_1"] == {"S": text}


def test_as_many_and_as_long_records_as_are_allowed(api: OrdersApi) -> None:
    ids = [f"most-{number}".ljust(128, "-") for number in range(MAX_RECORDS)]
    body = json.dumps([record(record_id, parameter_1="é" * 1024) for record_id in ids]).encode()
    answer = api.post(body.ljust(MAX_BODY_BYTES))
    assert answer.status_code == 201, answer.text
    assert answer.json()["stored"] == MAX_RECORDS
    assert set(ids) <= api.stored_ids()


def test_two_clients_at_once_leave_whole_records(api: OrdersApi) -> None:
    ids = [f"both-{number}" for number in range(100)]
    token, start = api.token(), Barrier(2, timeout=60)

    def send(client: int) -> httpx.Response:
        records = [record(record_id, parameter_1=f"client {client}", parameter_2=client) for record_id in ids]
        start.wait()
        return api.post(records, authorization=token)

    with ThreadPoolExecutor(2) as clients:
        for _ in range(2):
            assert [(answer.status_code, answer.json()["stored"]) for answer in clients.map(send, (1, 2))] == [
                (201, 100),
                (201, 100),
            ]
    for record_id in ids:
        item = api.stored(record_id)
        assert (item["parameter_1"]["S"], item["parameter_2"]["N"]) in {("client 1", "1"), ("client 2", "2")}
