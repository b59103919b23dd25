"""The retry contract: every error that the pipelines raise on purpose, in one tree; and the pauses between attempts.

``airflow_ext.defaults`` maps TransientError to a retry and PermanentError to an immediate failure. Whatever calls AWS
may raise the two errors of its service, ``…UnavailableError`` and ``…RefusedError``; docstrings name them only where
there is more to say. A message says what is wrong and what to change; it never holds a body or a secret.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


class PipelineError(Exception):
    """Base of every error raised on purpose."""


class TransientError(PipelineError):
    """The same call may work later; ``retry_after`` are the seconds that the other side asked to wait, if it did."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiUnavailableError(TransientError):
    """An HTTP API timed out, cut the connection, or answered 408, 425, 429 or 5xx."""


class NoResponseError(ApiUnavailableError):
    """There was no response: the time ran out, or the connection failed; the message says why, with host and port."""


class SettingsUnavailableError(TransientError):
    """A Variable or Connection is not found.

    Airflow answers the same when Secrets Manager is out of reach, so this is worth a retry.
    """


class KeysChangedError(TransientError):
    """A login refused keys that have been changed since they were read: a retry takes the new ones."""


class DatabaseUnavailableError(TransientError):
    """The client database cannot be reached, or failed while it was read."""


class StorageUnavailableError(TransientError):
    """S3 throttled, failed, or another writer won the race for the same key."""


class AwsUnavailableError(TransientError):
    """DynamoDB, SQS or SSM throttled, failed, or could not be reached."""


class PausedError(TransientError):
    """Nothing failed: the task has to wait, and then goes on with what is left. That costs it no try."""


class NoPermitError(PausedError):
    """All permits to call an API stayed taken for as long as a task may wait for one."""


class FileHeldError(TransientError):
    """Another run works on the file; when it has ended, there is nothing left to do, or it can be taken over."""


class FunctionUnavailableError(TransientError):
    """Lambda failed the invocation, or the answer did not come; the function may have run."""


class FunctionThrottledError(FunctionUnavailableError):
    """Lambda has no capacity for the invocation: the function did not run."""


class FunctionFailedError(TransientError):
    """The function raised an error, crashed, or ran out of time.

    Args:
        error_type: class name of the function's error, such as ``OrderRejectedError``: a caller may know better than
            to retry it.
    """

    def __init__(self, message: str, *, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type


class RetryableFailuresError(TransientError):
    """Some items of a task, clients, orders or files, failed in a way that a retry may help; the others are done."""


class PermanentError(PipelineError):
    """Repeating the same call changes nothing."""


class SettingsError(PermanentError):
    """A setting or a connection field is missing or malformed; the message names it."""


class InvalidInputError(PermanentError):
    """What was asked for cannot be used; the message names it."""


class RunRefusedError(InvalidInputError):
    """A run's params or configuration cannot be used, and nothing was done.

    No alert is sent where a person started the run: that person sees the message.
    """


class AuthRefusedError(PermanentError):
    """The token endpoint refused the credentials, or the API refused a fresh token."""


class ApiRefusedError(PermanentError):
    """The API refused the request with a status that a retry does not change."""


class InvalidAnswerError(PermanentError):
    """The answer cannot be used: a 200 whose body is no archivable JSON document, or a function's malformed result."""


class EmptyAnswerError(PermanentError):
    """An empty answer would replace a non-empty archive and the run is not forced."""


class InvalidFileError(PermanentError):
    """A file cannot be read: damaged compression, or a line or batch beyond its limit."""


class DatabaseRefusedError(PermanentError):
    """The client database refused the login, or has no such database or table."""


class StorageRefusedError(PermanentError):
    """S3 refused the request: the bucket does not exist or access is denied."""


class AwsRefusedError(PermanentError):
    """DynamoDB, SQS or SSM refused: no such table, queue or parameter, or access denied."""


class ClaimLostError(PermanentError):
    """Another owner has taken over; whoever gets this must stop, as the other one does the work."""


class FileChangedError(PermanentError):
    """A file was deleted or replaced while it was being worked on, or a file of its run was."""


class FunctionRefusedError(PermanentError):
    """Lambda refused the invocation: no such function, no permission, or a request that it cannot take."""


class WorkFailedError(PermanentError):
    """Some or all of the work of a task or run failed, and no retry helps; the rest is done, or left to a later run.

    The message says what failed, and where it is accounted for.
    """


def describe(error: BaseException) -> str:
    """``Type: message`` of an error of this tree; of any other the type, and the code that AWS gave, if it did.

    What others raise may quote anything, also a secret in a form that no masker finds.
    """
    if isinstance(error, PipelineError):
        return f"{type(error).__name__}: {error}"
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return f"{type(error).__name__}{f' {code}' if code else ''}, see the log"


@dataclass(frozen=True)
class Backoff:
    """Pauses that grow: ``first``, then each ``growth`` times the one before, and up to half as much again by chance.

    Args:
        first: seconds after the first failure.
        longest: limit in seconds of a pause and of what the other side asks for, before chance adds to it.
        growth: factor from one pause to the next.
        jitter: largest part of a pause that chance adds; callers that failed together must not return together.
    """

    first: float = 1.0
    longest: float = 60.0
    growth: float = 2.0
    jitter: float = 0.5

    def seconds(self, failures: int, asked: float | None = None) -> float:
        """Seconds to wait after so many failures, at least as long as the other side asked for."""
        # Bounded, as a float has no 2 ** 1024.
        own = min(self.first * self.growth ** min(failures - 1, 64), self.longest)
        chance = random.uniform(0.0, self.jitter)  # noqa: S311 - spreads load, guards nothing
        pause = own * (1.0 + chance)
        return pause if asked is None else max(pause, min(asked, self.longest) + self.first * chance)
