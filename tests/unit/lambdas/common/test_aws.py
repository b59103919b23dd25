import pytest

from lambdas.common.aws import client


def test_client_has_the_time_outs_attempts_and_connections_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    made = client("sqs", connect_seconds=0.5, read_seconds=2, attempts=3, connections=4)
    config = made.meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (0.5, 2, 4)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert made.meta.region_name == "eu-west-1"


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_region_is_that_of_the_environment_at_each_call(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert client("sqs", connect_seconds=1, read_seconds=1, attempts=1).meta.region_name == region
