"""What a check of the preflight says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Args:
        check: name of the check, ``family/what``.
        ok: nothing is to be changed.
        where: file, and what in it.
        message: what holds, or what is wrong.
        change: what to change; empty if nothing is.
    """

    check: str
    ok: bool
    where: str
    message: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of the project, and where it comes from.

    Args:
        value: in ``unit``.
        what: for people.
        where: file, and what in it.
        unit: ``s`` or another short name; empty for a count.
    """

    value: float
    what: str
    where: str
    unit: str = ""

    def __str__(self) -> str:
        """What it is, and how much."""
        value = f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:,.2f}"
        return f"{self.what} ({value}{' ' if self.unit else ''}{self.unit})"


class MissingFactError(Exception):
    """What a check compares is not where it was.

    Args:
        where: file, and what in it.
        change: what to do about it.
    """

    def __init__(self, where: str, change: str) -> None:
        super().__init__(where)
        self.where = where
        self.change = change


class UndecidedError(Exception):
    """What a check compares lies in a file that cannot be loaded, which another check tells."""


def good(check: str, where: str, message: str) -> Finding:
    """What is as it should be."""
    return Finding(check, ok=True, where=where, message=message)


def bad(check: str, where: str, message: str, change: str) -> Finding:
    """What is to be changed."""
    return Finding(check, ok=False, where=where, message=message, change=change)


def less(check: str, low: Amount, high: Amount, why: str) -> Finding:
    """``low`` must be less than ``high``.

    Args:
        check: name of the check.
        low: the one.
        high: the other.
        why: what would happen otherwise; a clause.
    """
    return _compared(check, low, high, why, ok=low.value < high.value, relation="less than")


def at_most(check: str, low: Amount, high: Amount, why: str) -> Finding:
    """``low`` must be no more than ``high``; see :func:`less`."""
    return _compared(check, low, high, why, ok=low.value <= high.value, relation="at most")


def _compared(check: str, low: Amount, high: Amount, why: str, *, ok: bool, relation: str) -> Finding:
    if ok:
        return good(check, low.where, f"{low} is {relation} {high}")
    change = f"lower {low.where}" + (f", or raise {high.where}" if high.where else "")
    return bad(check, low.where, f"{low} must be {relation} {high}: otherwise {why}", change)
