"""What orchestrators and activities use: contexts, tasks, retry policies and failures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

from duroxide.durabletask._functions import get_name
from duroxide.durabletask._orchestration.composites import (
    CompositeTask,
    WhenAllTask,
    WhenAnyTask,
    when_all,
    when_any,
)
from duroxide.durabletask._orchestration.context import OrchestrationContext, ReplaySafeLogger
from duroxide.durabletask._orchestration.failures import FailureDetails, TaskFailedError
from duroxide.durabletask._orchestration.retries import RetryPolicy
from duroxide.durabletask._orchestration.tasks import (
    CancellableTask,
    CompletableTask,
    RetryableTask,
    Task,
    TaskCancelledError,
    TimerTask,
)
from duroxide.durabletask._worker.activities import ActivityContext

__all__ = [
    "Activity",
    "ActivityContext",
    "CancellableTask",
    "CompletableTask",
    "CompositeTask",
    "FailureDetails",
    "NonDeterminismError",
    "OrchestrationContext",
    "OrchestrationStateError",
    "Orchestrator",
    "ReplaySafeLogger",
    "RetryPolicy",
    "RetryableTask",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TimerTask",
    "WhenAllTask",
    "WhenAnyTask",
    "get_name",
    "when_all",
    "when_any",
]

TInput = TypeVar("TInput")
TOutput = TypeVar("TOutput")

Orchestrator: TypeAlias = Callable[
    [OrchestrationContext, TInput], "Generator[Task[Any], Any, Any] | Coroutine[Any, Any, TOutput] | TOutput"
]
"""A function that runs as an orchestration: a generator function, an ``async def`` or a plain function."""

Activity: TypeAlias = Callable[[ActivityContext, TInput], "Coroutine[Any, Any, TOutput] | TOutput"]
"""A function that runs as an activity: a plain function or an ``async def``."""


class NonDeterminismError(Exception):
    """The code of an orchestrator no longer does what its history records.

    The runtime does not raise it: such an instance waits for code that fits.
    """


class OrchestrationStateError(Exception):
    """The state of an orchestration does not allow what was asked of it."""
