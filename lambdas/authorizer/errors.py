"""Why a request is not let in. Reasons are for the log: every caller gets the same answer."""

from __future__ import annotations


class MissingTokenError(Exception):
    """The request has no Authorization header, or an empty one."""


class DeniedError(Exception):
    """The request has something that is no valid token; the message names the reason in a word and quotes nothing."""


class KeysUnavailableError(Exception):
    """The signing key cannot be read, or is none: nobody can be let in, and nobody was found wanting."""
