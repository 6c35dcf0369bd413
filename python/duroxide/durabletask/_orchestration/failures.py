"""Failures as durabletask describes them, and their recorded form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from duroxide import ActivityFailed
from duroxide._values.failures import FailureRecord, RecordedFailure

_MOST_CAUSES = 8
# Modules of this package have the names of durabletask's in recorded types.
_PACKAGE = "duroxide.durabletask"
# Failures of the runtime that durabletask has its own names for.
_NOT_REGISTERED = "RegistrationError"
_NONDETERMINISM = "NondeterminismError"


@dataclass(frozen=True)
class FailureDetails:
    """The description of a failure.

    Attributes:
        message: Text of the exception.
        error_type: Qualified name of its class, such as ``"builtins.ValueError"``.
        stack_trace: Always ``None``: the store records no tracebacks, which go to the log.
        inner_failure: The failure that caused it, or ``None``.
        properties: The ``details`` of the exception, if they are a mapping; otherwise ``None``.
    """

    message: str
    error_type: str
    stack_trace: str | None = None
    inner_failure: FailureDetails | None = None
    properties: Mapping[str, Any] | None = None

    def is_caused_by(self, error: str | type[BaseException]) -> bool:
        """Tell whether the exception was of a class; its causes do not count.

        Args:
            error: The class, or its name with or without the module. A class also matches if the exception was of one of
                its subclasses that this process has loaded.
        """
        if isinstance(error, str):
            return error in (self.error_type, self.error_type.rpartition(".")[2])
        known = self.error_type if "." in self.error_type else f"builtins.{self.error_type}"
        return any(known == qualified_name(each) for each in _with_subclasses(error))


class TaskFailedError(Exception):
    """An activity or a sub-orchestration failed.

    Args:
        message: Text that names the task.
        details: The failure, or the exception that describes it.
    """

    def __init__(self, message: str, details: FailureDetails | BaseException) -> None:
        super().__init__(message)
        self._details = details if isinstance(details, FailureDetails) else details_of_exception(details)

    @property
    def details(self) -> FailureDetails:
        """The failure of the task."""
        return self._details


class RecordedError(RecordedFailure, Exception):
    """Carries a record through the runtime, which records it as it is."""

    def __init__(self, record: FailureRecord) -> None:
        super().__init__(record.message)
        self.error_type = record.error_type
        self.message = record.message
        self.details = record.details
        self.retryable = record.retryable
        self._bases = record.bases
        self._record = record


def recorded(error: BaseException) -> RecordedError:
    """Return the exception to raise in place of ``error``, so that its qualified type is recorded."""
    return RecordedError(_record_of(error, _MOST_CAUSES)).with_traceback(error.__traceback__)


def details_of_exception(error: BaseException) -> FailureDetails:
    """Describe an exception of this process."""
    return _details_of_record(_record_of(error, _MOST_CAUSES))


def details_of_failure(failure: BaseException, *, left: int = _MOST_CAUSES) -> FailureDetails:
    """Describe a failure that the runtime has read from a history."""
    if not isinstance(failure, RecordedFailure):
        return details_of_exception(failure)
    kind = failure.error_type or "builtins.Exception"
    cause = failure.__cause__
    return FailureDetails(
        failure.message,
        _type_in_durabletask(kind, failure),
        inner_failure=None if cause is None or not left else details_of_failure(cause, left=left - 1),
        properties=_mapping(failure.details),
    )


def qualified_name(kind: type) -> str:
    """Return the name of a class with its module, as durabletask names it."""
    module = kind.__module__
    if module == _PACKAGE or module.startswith(f"{_PACKAGE}."):
        # The classes of `task` are defined in private modules.
        inner = module.removeprefix(_PACKAGE).lstrip(".")
        module = f"durabletask.{inner}" if inner and not inner.startswith("_") else "durabletask.task"
    return f"{module}.{kind.__qualname__}"


def _type_in_durabletask(kind: str, failure: BaseException) -> str:
    if kind == _NOT_REGISTERED:
        what = "Activity" if isinstance(failure, ActivityFailed) else "Orchestrator"
        return f"durabletask.worker.{what}NotRegisteredError"
    return "durabletask.task.NonDeterminismError" if kind == _NONDETERMINISM else kind


def _record_of(error: BaseException, left: int) -> FailureRecord:
    record = FailureRecord.from_exception(error)
    if isinstance(error, RecordedFailure):
        return record
    kind = type(error)
    cause = record.cause
    if isinstance(error, TaskFailedError):
        # Its `details` are the failure of the task, and so the cause of this one.
        record, cause = dataclasses.replace(record, details=None), _record_of_details(error.details)
    elif error.__cause__ is not None and left:
        cause = _record_of(error.__cause__, left - 1)
    # The bare name among the bases lets programs of the native API ask for the class.
    return dataclasses.replace(
        record, error_type=qualified_name(kind), bases=(kind.__name__, *record.bases), cause=cause
    )


def _record_of_details(details: FailureDetails) -> FailureRecord:
    inner = details.inner_failure
    return FailureRecord(
        details.error_type,
        details.message,
        None if details.properties is None else dict(details.properties),
        bases=(details.error_type.rpartition(".")[2],),
        cause=None if inner is None else _record_of_details(inner),
    )


def _details_of_record(record: FailureRecord) -> FailureDetails:
    return FailureDetails(
        record.message,
        record.error_type or "builtins.Exception",
        inner_failure=None if record.cause is None else _details_of_record(record.cause),
        properties=_mapping(record.details),
    )


def _mapping(details: object) -> Mapping[str, Any] | None:
    return cast("dict[str, Any]", details) if isinstance(details, dict) else None


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    subclasses: list[type] = type.__subclasses__(kind)
    for each in subclasses:
        yield from _with_subclasses(each)
