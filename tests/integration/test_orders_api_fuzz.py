"""The deployed orders API does what its document says, whatever is sent: schemathesis makes the requests."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance, unsupported_method

from lambdas.orders_api.models import NUMBER_RULE
from tests.integration.conftest import Aws
from tests.integration.orders import DOCUMENT_PATH, OrdersApi

NOT_CHECKED = [
    # Asks for 405: to API Gateway, an undeclared method is the same as a path that does not exist.
    unsupported_method,
    # Asks for 201 to all that the schema allows; the test is more exact.
    positive_data_acceptance,
]
BEYOND_A_SCHEMA = (NUMBER_RULE, "is that of the record with index ")
"""How the messages begin of what a schema cannot say."""

Answered = Counter[tuple[bool, int]]

schema = schemathesis.openapi.from_path(DOCUMENT_PATH)
within_seconds = settings(max_examples=250, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


@pytest.fixture(scope="module")
def token(api: OrdersApi) -> str:
    return api.token(exp=9_999_999_999)


@pytest.fixture(scope="module")
def answered() -> Iterator[Answered]:
    """Number of answers by whether the request was valid, and by their status."""
    answers: Answered = Counter()
    yield answers
    assert min(answers[True, 201], answers[False, 400], answers[False, 422]) > 0, answers


@schema.parametrize()
@within_seconds
def test_answers_to_whoever_has_a_token(case: Case[Any], api: OrdersApi, token: str, answered: Answered) -> None:
    answer = case.call_and_validate(
        base_url=api.url, headers={"Authorization": f"Bearer {token}"}, excluded_checks=[*NOT_CHECKED, ignored_auth]
    )
    valid = case.meta.generation.mode.is_positive
    answered[valid, answer.status_code] += 1
    if valid and answer.status_code != 201:
        assert answer.status_code == 422
        faults = answer.json()["error"]["details"]
        assert all(fault["message"].startswith(BEYOND_A_SCHEMA) for fault in faults), faults


@schema.parametrize()
@settings(within_seconds, max_examples=40)
def test_answers_to_whoever_has_none(case: Case[Any], api: OrdersApi) -> None:
    answer = case.call_and_validate(base_url=api.url, excluded_checks=NOT_CHECKED)
    # 404 is for undeclared methods.
    assert answer.status_code in (401, 403) or (answer.status_code == 404 and case.method != "POST")
