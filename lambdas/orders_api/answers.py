"""What this API's own errors are in HTTP."""

from __future__ import annotations

from lambdas.common import answers
from lambdas.common.answers import Answer, StatusAndCode
from lambdas.orders_api.errors import InvalidRecordsError, NotStoredError

STATUS_AND_CODE: StatusAndCode = {
    **answers.STATUS_AND_CODE,
    InvalidRecordsError: (422, "invalid_records"),
    NotStoredError: (503, "unavailable"),
}
_PARTIALLY_STORED: StatusAndCode = {**STATUS_AND_CODE, NotStoredError: (503, "partially_stored")}


def error_answer(error: Exception, request_id: str) -> Answer:
    """The answer to a request that failed: see :func:`lambdas.common.answers.error_answer`."""
    partially = isinstance(error, NotStoredError) and error.stored
    return answers.error_answer(error, request_id, _PARTIALLY_STORED if partially else STATUS_AND_CODE)
