import json
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import Connection

from airflow_ext.hooks.call_details import Access, _shared_login, access_of, call_details_login
from airflow_ext.settings import get_connection
from include.errors import AwsRefusedError, SettingsError, SettingsUnavailableError
from tests.worlds.call_details import ACCESS, SECRET, FakeSsm
from tests.worlds.pipeline import leaks

POST = "https://calls.test/api/batches"
LOGIN = "https://calls.test/api/login"


def connection(**fields: Any) -> Connection:
    values: dict[str, Any] = {"conn_type": "http", "host": POST, "extra": {"auth_url": LOGIN}} | fields
    return Connection.from_json(json.dumps(values), conn_id="call_details_api")


def test_connection_needs_two_urls_and_knows_where_the_keys_are() -> None:
    assert access_of(connection()) == Access(POST, LOGIN, "/copyazure/accesskey", "/copyazure/secretkey")


def test_connection_may_name_other_parameters() -> None:
    extra = {"auth_url": LOGIN, "access_key_param": "/a", "secret_key_param": "/b"}
    found = access_of(connection(extra=extra))
    assert (found.access_key_param, found.secret_key_param) == ("/a", "/b")


def test_connection_from_the_form_holds_its_url_in_parts() -> None:
    found = access_of(connection(host="calls.test", schema="http", port=81), https_only=False)
    assert found.url == "http://calls.test:81"


def test_path_of_a_host_stays_before_the_port_and_as_it_is_written() -> None:
    found = access_of(connection(host="calls.test/api/a%3Ab", port=8443))
    assert found.url == "https://calls.test:8443/api/a%3Ab"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"host": ""}, "missing host"),
        ({"extra": {}}, "missing extra.auth_url"),
        ({"host": "", "extra": {}}, "missing host .* extra.auth_url"),
        ({"host": "ftp://calls.test"}, "host .* must begin with https://"),
        ({"host": "http://calls.test"}, "host .* must begin with https:// .*environment 'local'"),
        ({"host": "calls.test", "schema": "http"}, "host .* must begin with https://"),
        ({"extra": {"auth_url": "http://calls.test/login"}}, "extra.auth_url must begin with https://"),
        ({"host": f"https://user:{quote(SECRET)}@calls.test"}, "host .* must hold no user"),
        ({"extra": {"auth_url": "/login"}}, "extra.auth_url must begin with"),
        ({"extra": {"auth_url": f"https://calls.test/?key={quote(SECRET)}"}}, "extra.auth_url must hold no query"),
        ({"extra": {"auth_url": f"https://calls.test:{SECRET}/"}}, "extra.auth_url is no URL"),
    ],
)
def test_field_that_cannot_be_used_is_named_and_not_shown(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=f"'call_details_api': {named}") as caught:
        access_of(connection(**fields))
    assert leaks(str(caught.value), SECRET) == []


@pytest.mark.usefixtures("airflow_database")
def test_absent_connection_is_worth_a_retry() -> None:
    with pytest.raises(SettingsUnavailableError, match="call_details_api"):
        get_connection("call_details_api")


def test_connection_is_read_where_airflow_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"conn_type": "http", "host": POST, "extra": {"auth_url": LOGIN}}
    monkeypatch.setenv("AIRFLOW_CONN_CALL_DETAILS_API", json.dumps(value))
    assert access_of(get_connection("call_details_api")).url == POST


def test_login_is_shared_by_the_process_until_the_keys_change() -> None:
    _shared_login.cache_clear()
    ssm, access = FakeSsm(), access_of(connection())
    first = call_details_login(access, ssm)
    assert call_details_login(access, ssm) is first
    assert ssm.calls == 2, "one call for both keys, each time"
    ssm.parameters["/copyazure/secretkey"] = "another"
    assert call_details_login(access, ssm) is not first
    assert ACCESS not in repr(first) + repr(vars(first))


def test_missing_parameter_is_named() -> None:
    ssm = FakeSsm()
    del ssm.parameters["/copyazure/accesskey"]
    with pytest.raises(AwsRefusedError, match="SSM parameter /copyazure/accesskey is missing or empty"):
        call_details_login(access_of(connection()), ssm)
