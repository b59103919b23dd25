"""The deployed events API does what its document says, whatever is sent: schemathesis makes the requests."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance, unsupported_method

from tests.integration.events import DOCUMENT_PATH, EventsApi, Owner

NOT_CHECKED = [
    # The emulator answers OPTIONS itself; all other methods are tested by name.
    unsupported_method,
    # Asks for 2xx to all that the schema allows; the test is more exact.
    positive_data_acceptance,
]

Answered = Counter[tuple[str, bool, int]]

schema = schemathesis.openapi.from_path(DOCUMENT_PATH)
within_seconds = settings(max_examples=25, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def owner(events_api: EventsApi) -> Owner:
    return events_api.owner()


@pytest.fixture(scope="module")
def answered() -> Iterator[Answered]:
    """Number of answers by operation, whether the request was valid, and by their status."""
    answers: Answered = Counter()
    yield answers
    assert min(answers["POST /events", True, 201], answers["POST /events", False, 422]) > 0, answers
    assert min(answers["GET /events", True, 200], answers["GET /events", False, 422]) > 0, answers


@schema.parametrize()
@within_seconds
def test_answers_to_whoever_has_a_key(case: Case[Any], owner: Owner, answered: Answered) -> None:
    # Both, because schemathesis makes up what is not given.
    headers = {"X-API-Key": owner.key, "Authorization": f"Bearer {owner.key}"}
    answer = case.call_and_validate(
        base_url=owner.api.url, headers=headers, excluded_checks=[*NOT_CHECKED, ignored_auth]
    )
    valid = case.meta.generation.mode.is_positive
    answered[f"{case.method} {case.path}", valid, answer.status_code] += 1
    if valid and answer.status_code == 422:
        # A schema does not say which cursors a listing gave, which time is the earlier one, and that no year is 0.
        assert {fault["field"] for fault in answer.json()["error"]["details"]} <= {"cursor", "since", "until"}
    elif valid:
        # An id that could be one need not be one; a key that was made up before has an event with another content.
        assert answer.status_code in (200, 201, 404, 409)
