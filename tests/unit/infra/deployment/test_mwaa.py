from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError
from infra.release.deployment.mwaa import Airflow

UPDATED = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


class FakeMwaa:
    """An MWAA with one environment."""

    def __init__(self, status: str = "AVAILABLE", error: dict[str, str] | None = None) -> None:
        self.status = status
        self.error = error

    def get_environment(self, **request: str) -> dict[str, Any]:
        assert request == {"Name": "pipelines-dev"}
        last: dict[str, Any] = {"Status": "SUCCESS", "CreatedAt": UPDATED}
        if self.error:
            last |= {"Status": "FAILED", "Error": self.error}
        return {"Environment": {"Status": self.status, "LastUpdate": last}}


class FakeLogs:
    """Logs in pages, as CloudWatch gives them: some are empty and yet not the last. None = no such log group."""

    def __init__(self, *pages: list[str] | None) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def filter_log_events(self, **request: Any) -> dict[str, Any]:
        page = self.pages[len(self.asked)]
        self.asked.append(request)
        if page is None:
            error = {"Code": "ResourceNotFoundException", "Message": "no such log group"}
            raise ClientError({"Error": error}, "FilterLogEvents")
        more = {"nextToken": "next"} if len(self.asked) < len(self.pages) else {}
        return {"events": [{"message": line} for line in page], **more}


def airflow(mwaa: FakeMwaa, logs: FakeLogs) -> Airflow:
    return Airflow(mwaa, logs, "pipelines-dev", "airflow-pipelines-dev-Scheduler")


def test_environment_that_has_all_it_requires_is_good() -> None:
    logs = FakeLogs([], [])
    airflow(FakeMwaa(), logs).check()
    assert len(logs.asked) == 2, "an empty page is not the last"
    assert logs.asked[0]["startTime"] == UPDATED.timestamp() * 1000, "what failed before the last update is repaired"
    assert logs.asked[0]["logStreamNamePrefix"] == "requirements_install"
    assert logs.asked[1]["nextToken"] == "next"


def test_error_of_the_installation_is_found_behind_an_empty_page() -> None:
    with pytest.raises(ReleaseError, match="ERROR: No matching distribution") as failure:
        airflow(FakeMwaa(), FakeLogs([], ["ERROR: No matching distribution found for slack==9\n"])).check()
    assert "airflow-pipelines-dev-Scheduler" in str(failure.value)
    assert "dags/ was left as it is" in str(failure.value)


def test_requirements_that_failed_for_once_can_be_installed_anew_without_a_change() -> None:
    # A second deployment has nothing to update, so the failure's log would stay the latest.
    with pytest.raises(ReleaseError, match="aws mwaa update-environment --name pipelines-dev\n") as failure:
        airflow(FakeMwaa(), FakeLogs(["ERROR: Could not connect\n"])).check()
    assert "deploy again" in str(failure.value)


def test_environment_that_has_written_no_log_yet_is_not_refused_for_that() -> None:
    airflow(FakeMwaa(), FakeLogs(None)).check()


def test_environment_that_does_not_run_is_reported_with_what_mwaa_says() -> None:
    mwaa = FakeMwaa("UPDATE_FAILED", {"ErrorCode": "INCORRECT_CONFIGURATION", "ErrorMessage": "Check the subnets"})
    with pytest.raises(
        ReleaseError, match=r"not available \(UPDATE_FAILED\): INCORRECT_CONFIGURATION: Check the subnets"
    ):
        airflow(mwaa, FakeLogs()).check()


def test_update_that_went_well_has_no_reason_to_have_failed() -> None:
    assert airflow(FakeMwaa(), FakeLogs()).why_failed() == ""
