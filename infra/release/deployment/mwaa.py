"""The environment on MWAA: why it failed, and what it does not say when it fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError

INSTALL_STREAMS = "requirements_install"
"""What the names of the log streams begin with that hold the output of pip."""

_INSTALL_FAILED = '"ERROR:"'
"""How pip begins the line that says what it could not install."""


@dataclass(frozen=True, slots=True)
class Airflow:
    """One environment on MWAA.

    Args:
        mwaa: client of MWAA.
        logs: client of CloudWatch Logs.
        name: name of the environment.
        log_group: log group of its scheduler.
    """

    mwaa: Any
    logs: Any
    name: str
    log_group: str

    def why_failed(self) -> str:
        """What the environment says of its last update, as a sentence; empty if it says nothing."""
        environment = self._describe()
        error = (environment or {}).get("LastUpdate", {}).get("Error", {})
        if not error:
            return ""
        return f"{error.get('ErrorCode', 'error')}: {error.get('ErrorMessage', 'no message')}"

    def check(self) -> None:
        """Make sure that it is there, runs, and has what it requires.

        MWAA only logs that an installation failed, and goes on without the packages; so its log is read, from the last
        update on.

        Raises:
            ReleaseError: it is not there, not available, or could not install its requirements.
        """
        environment = self._describe()
        if environment is None:
            raise ReleaseError(
                f"MWAA has no environment {self.name}, though its stack is done: see the stack's resources"
            )
        if environment["Status"] != "AVAILABLE":
            why = self.why_failed()
            raise ReleaseError(
                f"the environment {self.name} is not available ({environment['Status']}){why and ': '}{why}"
            )
        updated: datetime | None = environment.get("LastUpdate", {}).get("CreatedAt") or environment.get("CreatedAt")
        line = self._install_error(int(updated.timestamp() * 1000) if updated else 0)
        if line:
            raise ReleaseError(
                f"the environment {self.name} runs, but without all of its requirements:\n    {line}\n"
                f"See the log group {self.log_group}, streams {INSTALL_STREAMS}*; dags/ was left as it is. If "
                "requirements.txt is wrong, correct it (make preflight finds most mistakes) and deploy again. If it is "
                "right, and pip failed for once (a package index that did not answer), have MWAA install them anew, "
                "with the same versions, wait until it is AVAILABLE (10 to 30 minutes), and deploy again: as it is, a "
                "deployment finds nothing to update, and reads this same log.\n"
                f"    aws mwaa update-environment --name {self.name}\n"
                f"    aws mwaa get-environment --name {self.name} --query Environment.Status"
            )

    def _install_error(self, since: int) -> str:
        """First line in which pip failed since a time (milliseconds since 1970), or an empty text."""
        more: dict[str, str] = {}
        while True:
            try:
                page = self.logs.filter_log_events(
                    logGroupName=self.log_group,
                    logStreamNamePrefix=INSTALL_STREAMS,
                    filterPattern=_INSTALL_FAILED,
                    startTime=since,
                    **more,
                )
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return ""
                raise
            if page["events"]:
                return str(page["events"][0]["message"]).strip()
            if "nextToken" not in page:
                return ""
            more = {"nextToken": page["nextToken"]}

    def _describe(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.mwaa.get_environment(Name=self.name)["Environment"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise
        return found
