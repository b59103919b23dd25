"""What a command says when it cannot be carried out."""

from __future__ import annotations


class OpsError(Exception):
    """The message says what is wrong and what to do; the command changed nothing."""
