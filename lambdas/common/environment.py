"""A function's environment, typed and checked.

Handlers read it at module level: a function whose template is wrong then fails while it starts, with the variable's
name in its log, and not at some later request.
"""

from __future__ import annotations

import math
import os


class EnvironmentVariableError(Exception):
    """A variable is missing or cannot be used; the message names it and never quotes its value."""


def text(name: str, *, default: str | None = None) -> str:
    """The variable as it stands, or the default if it is missing or empty.

    Raises:
        EnvironmentVariableError: it is missing or empty, and there is no default.
    """
    value = os.environ.get(name, "")
    if value:
        return value
    if default is None:
        raise EnvironmentVariableError(f"environment variable {name} is missing or empty")
    return default


def number(name: str, *, least: float, most: float, default: str | None = None) -> float:
    """The variable as a number from ``least`` to ``most``; ``default`` as of :func:`text`.

    Raises:
        EnvironmentVariableError: it is missing, no number, or out of range.
    """
    try:
        value = float(text(name, default=default))
    except ValueError:
        value = math.nan
    # Written so that NaN, which compares false with everything, is out of range.
    if not least <= value <= most:
        raise EnvironmentVariableError(f"environment variable {name} must be a number from {least:g} to {most:g}")
    return value


def whole_number(name: str, *, least: int, most: int, default: str | None = None) -> int:
    """The variable as a whole number from ``least`` to ``most``; ``default`` as of :func:`text`.

    Raises:
        EnvironmentVariableError: it is missing, no whole number, or out of range.
    """
    try:
        value = int(text(name, default=default))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise EnvironmentVariableError(f"environment variable {name} must be a whole number from {least} to {most}")
    return value
