"""What people received: every SNS message and every Slack message of the session."""

from __future__ import annotations

from local.inbox import receive_alerts
from local.stack import Stack
from tests.e2e.kit.partners import Partners
from tests.e2e.kit.pipeline import Pipeline

SLACK_PATH = "/slack/services"


class Inbox:
    """Keeps what it takes off the queue, so that no message is lost between tests."""

    def __init__(self, stack: Stack, partners: Partners, pipeline: Pipeline) -> None:
        self._stack = stack
        self._partners = partners
        self._pipeline = pipeline
        self._sns: list[str] = []

    def sns(self) -> list[str]:
        """All messages that the alerts topic has delivered until now."""
        self._sns += receive_alerts(self._stack, containing="", expected=0)
        return list(self._sns)

    def slack(self) -> list[str]:
        """All messages that Slack has taken until now, as JSON."""
        return [str(call["body"]) for call in self._partners.calls(SLACK_PATH) if call["status"] == 200]

    def about(self, run_id: str, *, failed: bool = True) -> tuple[list[str], list[str]]:
        """The SNS and Slack messages about one run that has ended, also those that come late.

        Args:
            failed: the run has failed, so that its failure callback is to be awaited.
        """
        if failed:
            self._pipeline.wait_for_failure_callback(run_id)
        return (
            [text for text in self.sns() if run_id in text],
            [text for text in self.slack() if run_id in text],
        )
