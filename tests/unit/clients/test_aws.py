from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from include.clients.aws import get_parameters
from include.errors import AwsRefusedError, AwsUnavailableError


class FakeSsm:
    """Quacks like a boto3 SSM client; ``failure`` is raised instead of an answer."""

    def __init__(self, values: dict[str, str], failure: Exception | None = None) -> None:
        self.values = values
        self.failure = failure
        self.requests: list[dict[str, Any]] = []

    def get_parameters(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        if self.failure:
            raise self.failure
        found = [{"Name": name, "Value": self.values[name]} for name in request["Names"] if name in self.values]
        return {"Parameters": found[::-1], "InvalidParameters": []}


def test_values_come_decrypted_in_order_by_one_call() -> None:
    ssm = FakeSsm({"/a": "1", "/b": "2"})
    assert get_parameters(ssm, "/a", "/b", "/a") == ("1", "2", "1")
    assert ssm.requests == [{"Names": ["/a", "/b"], "WithDecryption": True}]


def test_line_break_at_the_end_of_a_parameter_is_dropped() -> None:
    assert get_parameters(FakeSsm({"/a": "1\n", "/b": " 2 \r\n"}), "/a", "/b") == ("1", " 2 ")


@pytest.mark.parametrize("values", [{"/a": "1"}, {"/a": "1", "/b": ""}, {"/a": "1", "/b": "\n"}])
def test_missing_parameter_is_named(values: dict[str, str]) -> None:
    with pytest.raises(AwsRefusedError, match="/b is missing or empty"):
        get_parameters(FakeSsm(values), "/a", "/b")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (EndpointConnectionError(endpoint_url="https://ssm.test"), AwsUnavailableError),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "GetParameters"), AwsUnavailableError),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 500}}, "GetParameters"), AwsUnavailableError),
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetParameters"), AwsRefusedError),
    ],
)
def test_error_of_aws_is_transient_or_permanent_by_its_code(failure: Exception, error: type[Exception]) -> None:
    with pytest.raises(error):
        get_parameters(FakeSsm({}, failure), "/a")
