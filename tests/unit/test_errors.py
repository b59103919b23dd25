from __future__ import annotations

import inspect
import re

import pytest
from botocore.exceptions import ClientError

from include import errors


def _classes() -> list[type[errors.PipelineError]]:
    return [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.PipelineError)
    ]


def _drawn() -> dict[str, str | None]:
    """Parent by class, as the module's docstring draws the tree."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"(?P<branch>[ │├└─]*)(?P<name>\w+Error)\b.*", line)
        if found is None:
            continue
        depth = len(found["branch"])
        above = [(other, name) for other, name in above if other < depth]
        parents[found["name"]] = above[-1][1] if above else None
        above.append((depth, found["name"]))
    return parents


def test_docstring_draws_the_real_tree() -> None:
    drawn = _drawn()
    real = {cls.__name__: None if cls is errors.PipelineError else cls.__mro__[1].__name__ for cls in _classes()}
    assert len(drawn) > 10
    assert drawn == real


def test_every_error_is_on_exactly_one_branch() -> None:
    leaves = [cls for cls in _classes() if not cls.__subclasses__()]
    assert leaves
    for cls in leaves:
        assert issubclass(cls, errors.TransientError) != issubclass(cls, errors.PermanentError), cls


@pytest.mark.parametrize("cls", _classes())
def test_message_is_kept_as_it_is(cls: type[errors.PipelineError]) -> None:
    assert str(cls("what to do")) == "what to do"


def test_transient_error_carries_the_wait_that_was_asked_for() -> None:
    assert errors.ApiUnavailableError("busy", retry_after=7.0).retry_after == 7.0
    assert errors.ApiUnavailableError("busy").retry_after is None


def test_error_of_ours_is_described_by_its_message_and_any_other_by_its_type_and_the_code_of_aws() -> None:
    assert errors.describe(errors.SettingsError("host is missing")) == "SettingsError: host is missing"
    assert errors.describe(ValueError("pl4nted")) == "ValueError, see the log"
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "pl4nted"}}, "PutObject")
    assert errors.describe(refused) == "ClientError AccessDenied, see the log"
