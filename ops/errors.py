"""What a command says when it cannot be carried out."""

from __future__ import annotations


class OpsError(Exception):
    """The message says what is wrong and what to do; the command changed nothing.

    Args:
        status: of Airflow's answer, if it refused.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
