"""What stops a release before it has changed anything."""

from __future__ import annotations


class ReleaseError(Exception):
    """The release cannot be made. The message says what is wrong and what to do about it."""
