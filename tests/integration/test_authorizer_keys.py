"""What the deployed authorizer makes of a secret that is rotated."""

import secrets
from collections.abc import Mapping

import pytest

from tests.integration.conftest import Aws
from tests.integration.deployed_api import eventually
from tests.integration.orders import OrdersApi, record
from tests.worlds.tokens import HS256, claims, forge


@pytest.fixture
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


def rotate(api: OrdersApi) -> str:
    key = secrets.token_hex(32)
    api.aws.secrets.put_secret_value(SecretId=api.outputs["OrdersJwtSecretName"], SecretString=key)
    return key


def status(api: OrdersApi, key: str) -> int:
    """What a new token of this key is answered with; new, because API Gateway keeps the answer to one it has seen."""
    token = forge(HS256, claims(jti=secrets.token_hex(8)), key)
    return api.post([record("rotation")], authorization=token).status_code


def test_rotation_takes_the_new_key_at_once_and_the_previous_until_the_next(api: OrdersApi) -> None:
    first = api.key()
    assert status(api, first) == 201

    second = rotate(api)
    # Up to a second after any read of the keys, a token that fits none of them is refused without another.
    eventually("the new key is taken", lambda: status(api, second) == 201)
    assert status(api, first) == 201

    third = rotate(api)
    eventually("the newest key is taken", lambda: status(api, third) == 201)
    assert status(api, second) == 201
    assert status(api, first) == 403


def test_token_of_the_tool_is_signed_with_the_new_key(api: OrdersApi) -> None:
    before = api.issued_token()
    rotate(api)
    eventually(
        "a token of the tool is let in",
        lambda: api.post([record("rotation")], authorization=api.issued_token()).status_code == 201,
    )
    assert api.post([record("rotation")], authorization=before).status_code == 201
