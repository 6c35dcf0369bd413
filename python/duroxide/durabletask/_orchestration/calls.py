"""The branches of the runtime that complete tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from duroxide import TaskFailed
from duroxide.durabletask._orchestration.failures import details_of_failure
from duroxide.durabletask._orchestration.tasks import CompletableTask, TimerTask

if TYPE_CHECKING:
    from duroxide import OrchestrationContext as NativeContext
    from duroxide import Task as Step
    from duroxide.durabletask._orchestration.retries import RetryPolicy

# Makes the step of an attempt, counted from 1.
Attempt = Callable[[int], "Step[Any]"]
Convert = Callable[[Any], Any]
Branch = Generator[Any, Any, None]


def run_once(task: CompletableTask[Any], step: Step[Any], convert: Convert, title: str) -> Branch:
    """Complete a task with the end of one step."""
    try:
        value = yield step
    except TaskFailed as failure:
        fail(task, failure, title)
    else:
        complete(task, value, convert, title)


def run_with_retries(  # noqa: PLR0917  (private, called once)
    native: NativeContext, task: CompletableTask[Any], make: Attempt, convert: Convert, title: str, policy: RetryPolicy
) -> Branch:
    """Complete a task with the end of the last attempt of an operation."""
    began = native.now()
    attempt = 0
    while True:
        attempt += 1
        try:
            value = yield make(attempt)
        except TaskFailed as failure:
            pause = None
            if failure.retryable is not False:
                elapsed = native.now() - began
                pause = policy._pause_after(attempt, elapsed, details_of_failure(failure), native.random)
            if pause is None:
                fail(task, failure, title)
                return
        else:
            complete(task, value, convert, title)
            return
        yield native.schedule_timer(whole_milliseconds(pause))


def run_timer(task: TimerTask, step: Step[None]) -> Branch:
    """Complete a timer, unless it was cancelled."""
    yield step
    if not task.is_complete:
        task.complete(None)


def complete(task: CompletableTask[Any], value: Any, convert: Convert, title: str) -> None:
    """End a task with a value, or with the exception that its conversion raises."""
    try:
        result = convert(value)
    except Exception as error:  # noqa: BLE001  (a converter of the program may raise anything)
        task.fail(f"{title} failed: {error}", error)
    else:
        task.complete(result)


def fail(task: CompletableTask[Any], failure: TaskFailed, title: str) -> None:
    """End a task with a failure."""
    details = details_of_failure(failure)
    task.fail(f"{title} failed: {details.message}", details)


def whole_milliseconds(time: timedelta) -> int:
    """Return a time in milliseconds, rounded up; zero for a negative one."""
    return max(0, math.ceil(time / timedelta(milliseconds=1)))
