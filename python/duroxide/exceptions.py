"""The exceptions of the package, and the functions with which the native half builds those of recorded failures."""

# The classes are named by what happened, without the suffix Error.
# ruff: noqa: N818

from __future__ import annotations

import json
from typing import Any

from duroxide._values.failures import FailureRecord, RecordedFailure, describe_failure, encode_failure

__all__ = [
    "ActivityFailed",
    "ActivityTimedOut",
    "ClientError",
    "CodecError",
    "ConfigurationError",
    "DuroxideError",
    "InstanceAlreadyExists",
    "InstanceNotFound",
    "InstanceStillRunning",
    "LimitExceeded",
    "NondeterminismError",
    "NotAllowedInOrchestration",
    "NotInOrchestration",
    "OrchestrationCancelled",
    "OrchestrationFailed",
    "OrchestrationTerminated",
    "PoisonMessageError",
    "ProviderError",
    "RegistrationError",
    "SubOrchestrationFailed",
    "SubOrchestrationTimedOut",
    "TaskFailed",
    "TurnClosed",
    "UnknownOption",
    "WaitTimedOut",
    "activity_failed",
    "activity_timed_out",
    "describe_failure",
    "encode_failure",
    "orchestration_failed",
    "sub_orchestration_failed",
]


class DuroxideError(RuntimeError):
    """The base of all exceptions of this package, except ``TurnClosed``.

    It is a ``RuntimeError``, because programs of the earlier SDK catch that.
    """


class TaskFailed(RecordedFailure, DuroxideError):
    """A task of an orchestration failed; raised where the task is yielded or awaited.

    It is not an instance of the activity's own exception; ``is_caused_by(ValueError)`` tells the class of that.

    Args:
        error_type: Name of the class of the original exception, or ``None`` if only a text was recorded.
        message: Text of the failure.
        details: JSON value that the exception carried; default ``None``.
        retryable: Whether the exception allowed another attempt; default ``None``, unknown.
    """

    def __init__(
        self, error_type: str | None, message: str, details: Any = None, *, retryable: bool | None = None
    ) -> None:
        super().__init__()
        # Assign instead of calling the base: OSError, a base of one subclass, reads two arguments as errno and its
        # text.
        self.args = (error_type, message, details)
        self.error_type = error_type
        self.message = message
        self.details = details
        self.retryable = retryable


class ActivityFailed(TaskFailed):
    """An activity raised, on its last attempt.

    Attributes:
        activity_name: Name under which the activity is registered.
        activity_id: Number of the event that scheduled it, or ``None`` if it was never scheduled.
        attempts: Number of its attempts; 1 without a retry policy.
    """

    activity_name: str = ""
    activity_id: int | None = None
    attempts: int = 1


class ActivityTimedOut(ActivityFailed, TimeoutError):
    """An activity did not finish within the timeout of its retry policy."""


class SubOrchestrationFailed(TaskFailed):
    """A sub-orchestration failed or was cancelled.

    Attributes:
        orchestration_name: Name of the child.
        instance_id: Instance of the child's last attempt, or ``None`` if it is unknown.
        attempts: Number of its attempts; 1 without a retry policy.
    """

    orchestration_name: str = ""
    instance_id: str | None = None
    attempts: int = 1


class SubOrchestrationTimedOut(SubOrchestrationFailed, TimeoutError):
    """A sub-orchestration did not end within the timeout of its retry policy."""


class OrchestrationFailed(RecordedFailure, DuroxideError):
    """An orchestration failed; raised by ``OrchestrationResult.result()`` and by the waits that use it.

    Args:
        error_type: Name of the class of the original exception, or ``None`` if only a text was recorded.
        message: Text of the failure.
        details: JSON value that the exception carried; default ``None``.
        retryable: Whether the exception allowed another attempt; default ``None``, unknown.
        instance_id: The instance that failed; default ``None``.
    """

    def __init__(
        self,
        error_type: str | None,
        message: str,
        details: Any = None,
        *,
        retryable: bool | None = None,
        instance_id: str | None = None,
    ) -> None:
        super().__init__(error_type, message, details)
        self.error_type = error_type
        self.message = message
        self.details = details
        self.retryable = retryable
        self.instance_id = instance_id


class OrchestrationCancelled(OrchestrationFailed):
    """An orchestration was cancelled.

    Args:
        reason: The reason that the cancellation gave; may be empty.
        instance_id: The instance that was cancelled; default ``None``.
        cleanup_failure: How its clean-up failed, or that it was given up after
            ``RuntimeOptions.cleanup_timeout_ms``, which is a ``TimeoutError``; default ``None``, it ended.
    """

    def __init__(
        self, reason: str = "", *, instance_id: str | None = None, cleanup_failure: TaskFailed | None = None
    ) -> None:
        clean_up = "" if cleanup_failure is None else f"; its clean-up failed: {cleanup_failure}"
        super().__init__(None, f"canceled: {reason}{clean_up}", instance_id=instance_id)
        self.args = (reason,)
        self.reason = reason
        self.cleanup_failure = cleanup_failure


class OrchestrationTerminated(OrchestrationCancelled):
    """An orchestration was terminated: it ended at once, and its code did not clean up.

    Args:
        reason: The reason that the termination gave; may be empty.
        instance_id: The instance that was terminated; default ``None``.
        output: What the termination left as the output of the instance; default ``None``, nothing.
    """

    def __init__(self, reason: str = "", *, instance_id: str | None = None, output: object = None) -> None:
        super().__init__(reason, instance_id=instance_id)
        self.output = output


class NondeterminismError(OrchestrationFailed):
    """An orchestration failed because its code no longer does what its history records.

    By default such an instance waits instead, and its ``mismatch`` says why; see ``RuntimeOptions.nondeterminism``.
    """


class PoisonMessageError(OrchestrationFailed):
    """The engine gave a message up after ``RuntimeOptions.max_attempts`` deliveries that did not end."""


class ClientError(DuroxideError):
    """A client operation failed."""


class InstanceNotFound(ClientError, LookupError):
    """The store does not have the instance or execution."""


class InstanceAlreadyExists(ClientError):
    """An instance of another orchestration has the id; with ``if_exists="raise"``, any instance."""


class InstanceStillRunning(ClientError):
    """The operation needs an instance that has ended."""


class WaitTimedOut(ClientError, TimeoutError):
    """The time of a wait passed first; the orchestration is not affected."""


class ProviderError(ClientError):
    """The store failed: it cannot be reached, opened, read or written."""


class CodecError(DuroxideError, ValueError):
    """A value cannot be written as JSON, or does not fit the annotation of its receiver."""


class RegistrationError(DuroxideError):
    """A function cannot be registered."""


class ConfigurationError(DuroxideError, ValueError):
    """An option has an invalid value."""


class UnknownOption(ConfigurationError, TypeError):
    """An option has an unknown name."""


class LimitExceeded(DuroxideError, ValueError):
    """A name, a payload, a time or another value is beyond the limit of recorded values."""


class NotAllowedInOrchestration(DuroxideError):
    """An orchestration made a call that waits for the outside world, or another thread used its context."""


class NotInOrchestration(DuroxideError):
    """A call that needs an orchestration or a context was made elsewhere."""


class TurnClosed(BaseException):
    """The context was used outside its turn.

    The runtime also raises it in a suspended orchestration to close it, for example at shutdown. It derives from
    ``BaseException``, so that an orchestration's ``except Exception`` does not catch it.
    """


def activity_failed(text: str, name: str, activity_id: int | None, attempts: int) -> ActivityFailed:
    """Build the exception for the recorded failure ``text`` of activity ``name``."""
    record = FailureRecord.from_text(text)
    failure = ActivityFailed(record.error_type, record.message, record.details, retryable=record.retryable)
    _complete(failure, record)
    failure.activity_name = name
    failure.activity_id = activity_id
    failure.attempts = attempts
    return failure


def activity_timed_out(name: str, timeout_ms: int, attempts: int, limit: str) -> ActivityTimedOut:
    """Build the exception for an activity that ran out of time.

    Args:
        name: Name of the activity.
        timeout_ms: The timeout that passed, in milliseconds.
        attempts: Number of attempts that were started.
        limit: ``"total"`` for the timeout of all attempts, ``"attempt"`` for the time of the last attempt's code, or
            ``"start"`` for the last attempt's wait in the queue.
    """
    verb = "begin" if limit == "start" else "finish"
    message = f"activity '{name}' did not {verb} within {timeout_ms} ms in {_span(attempts, limit)}"
    failure = ActivityTimedOut(ActivityTimedOut.__name__, message)
    failure.activity_name = name
    failure.attempts = attempts
    return failure


def _span(attempts: int, limit: str) -> str:
    if limit == "total":
        return f"{attempts} attempt{'' if attempts == 1 else 's'}"
    return f"its attempt number {attempts}"


def sub_orchestration_failed(
    text: str, name: str, instance_id: str | None, attempts: int = 1
) -> SubOrchestrationFailed:
    """Build the exception for the recorded failure ``text`` of sub-orchestration ``name``."""
    record = FailureRecord.from_text(text)
    failure = SubOrchestrationFailed(record.error_type, record.message, record.details, retryable=record.retryable)
    _complete(failure, record)
    failure.orchestration_name = name
    failure.instance_id = instance_id
    failure.attempts = attempts
    return failure


def sub_orchestration_timed_out(
    name: str, instance_id: str | None, timeout_ms: int, attempts: int, limit: str
) -> SubOrchestrationTimedOut:
    """Build the exception for a sub-orchestration that ran out of time."""
    message = f"sub-orchestration '{name}' did not finish within {timeout_ms} ms in {_span(attempts, limit)}"
    failure = SubOrchestrationTimedOut(SubOrchestrationTimedOut.__name__, message)
    failure.orchestration_name = name
    failure.instance_id = instance_id
    failure.attempts = attempts
    return failure


def orchestration_failed(
    text: str,
    instance_id: str,
    cancel_reason: str | None,
    cleanup_failure: str | None = None,
    termination: str | None = None,
) -> OrchestrationFailed:
    """Build the exception for an orchestration that ended with the recorded failure ``text``.

    Args:
        text: The recorded failure.
        instance_id: The instance that failed.
        cancel_reason: Why it was cancelled, or ``None`` if it was not.
        cleanup_failure: The recorded failure of its clean-up, or ``None``.
        termination: The output of its termination as JSON, empty if it has none, or ``None`` if it was not terminated.
    """
    if termination is not None:
        output = json.loads(termination) if termination else None
        return OrchestrationTerminated(cancel_reason or "", instance_id=instance_id, output=output)
    if cancel_reason is not None:
        failed = None if cleanup_failure is None else _inner(FailureRecord.from_text(cleanup_failure))
        return OrchestrationCancelled(cancel_reason, instance_id=instance_id, cleanup_failure=failed)
    record = FailureRecord.from_text(text)
    kinds = {kind.__name__: kind for kind in (NondeterminismError, PoisonMessageError)}
    kind = kinds.get(record.error_type or "", OrchestrationFailed)
    failure = kind(
        record.error_type, record.message, record.details, retryable=record.retryable, instance_id=instance_id
    )
    _complete(failure, record)
    return failure


def _complete(failure: TaskFailed | OrchestrationFailed, record: FailureRecord) -> None:
    """Give a failure what was recorded beside its class and text: its bases, notes, cause, and members of a group."""
    failure._bases = record.bases
    failure.failures = tuple(_inner(each) for each in record.failures)
    if record.notes:
        # Python 3.10 has no add_note, but shows nothing of it either.
        vars(failure)["__notes__"] = list(record.notes)
    if record.cause is not None:
        failure.__cause__ = _inner(record.cause)


def _inner(record: FailureRecord) -> TaskFailed:
    failure = TaskFailed(record.error_type, record.message, record.details, retryable=record.retryable)
    _complete(failure, record)
    return failure
