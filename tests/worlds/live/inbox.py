"""What people received: every SNS message and every Slack message of the session."""

from pathlib import Path

from local.clients import receive_alerts, slack_messages
from local.stack.description import Stack
from tests.worlds.live.waiting import wait_until


class Inbox:
    """Keeps what it takes off the queue, so that no message is lost between tests."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._sns: list[str] = []

    def sns(self) -> list[str]:
        self._sns += receive_alerts(self._stack, containing="", expected=0)
        return list(self._sns)

    def slack(self) -> list[str]:
        """All messages that Slack has taken until now, as JSON."""
        return slack_messages(self._stack, containing="")

    def about(self, run_id: str, *, failed: bool = True) -> tuple[list[str], list[str]]:
        """The SNS and Slack messages about one run that has ended, also those that come late.

        Args:
            failed: the run has failed, so that its failure callback is to be awaited.
        """
        if failed:
            self._wait_for_failure_callback(run_id)
        return ([text for text in self.sns() if run_id in text], [text for text in self.slack() if run_id in text])

    def _wait_for_failure_callback(self, run_id: str) -> None:
        """Wait until the DAG's own failure callback, which might alert a second time, has done its work."""
        logs = Path(self._stack.logs).parent / "airflow" / "logs" / "dag_processor"

        def done() -> bool:
            texts = (path.read_text(errors="replace") for path in logs.rglob("*.py.log"))
            return any(
                run_id in line and ("people know why" in line or "delivered through" in line)
                for text in texts
                if run_id in text
                for line in text.splitlines()
            )

        wait_until(done, what=f"the failure callback of run {run_id}")
