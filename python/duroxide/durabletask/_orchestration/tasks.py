"""The tasks that an orchestrator yields."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from duroxide import Task as Step
from duroxide.durabletask._orchestration.failures import FailureDetails, TaskFailedError

T = TypeVar("T")


class TaskCancelledError(Exception):
    """The task was cancelled, so it has no result."""


class Task(Generic[T]):
    """Something that an orchestrator waits for, by ``yield`` or, in an ``async def`` orchestrator, by ``await``."""

    def __init__(self) -> None:
        self._is_complete = False
        self._result: T | None = None
        self._exception: BaseException | None = None
        self._was_yielded = False
        # The groups that wait for it.
        self._groups: list[Group] = []

    @property
    def is_complete(self) -> bool:
        """Whether it has ended, with a result or with a failure, or was cancelled."""
        return self._is_complete

    @property
    def is_failed(self) -> bool:
        """Whether it ended with a failure."""
        return self._is_complete and self._exception is not None

    def get_result(self) -> T:
        """Return the result.

        Raises:
            ValueError: The task has not ended.
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
        """
        if not self._is_complete:
            raise ValueError("the task has no result yet: yield it first")
        if self._exception is not None:
            raise self._exception
        return self._result  # type: ignore[return-value]  # complete without an exception

    @property
    def result(self) -> T:
        """The result; as ``get_result``."""
        return self.get_result()

    def get_exception(self) -> BaseException:
        """Return the exception of a failed task.

        Raises:
            ValueError: The task has not failed.
        """
        if self._exception is None:
            raise ValueError("the task has not failed: ask is_failed first")
        return self._exception

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the task in an ``async def`` orchestrator."""
        value: T = yield self
        return value

    def _steps(self) -> list[Step[Any]]:
        """The steps of the runtime that may complete it."""
        return []

    def _needs_all_steps(self) -> bool:
        """Whether it is complete when all of these steps are, and not earlier."""
        return False

    def _mark_yielded(self) -> None:
        self._was_yielded = True

    def _end(self, result: T | None, exception: BaseException | None) -> None:
        if self._is_complete:
            raise ValueError("the task has ended already")
        self._is_complete = True
        self._result = result
        self._exception = exception
        for group in self._groups:
            group.note_end(self)


class Group:
    """A part of the interface of a composite task: what its children tell it."""

    def note_end(self, task: Task[Any]) -> None:
        """Take the end of a child into account."""
        raise NotImplementedError


class CompletableTask(Task[T]):
    """A task that one operation completes."""

    def __init__(self) -> None:
        super().__init__()
        self._step: Step[Any] | None = None

    def complete(self, result: T) -> None:
        """End the task with a result.

        Args:
            result: The result.

        Raises:
            ValueError: The task has ended already.
        """
        self._end(result, None)

    def fail(self, message: str, details: FailureDetails | BaseException) -> None:
        """End the task with a failure.

        Args:
            message: Text of the ``TaskFailedError``.
            details: The failure, or the exception that describes it.

        Raises:
            ValueError: The task has ended already.
        """
        self._end(None, TaskFailedError(message, details))

    def _steps(self) -> list[Step[Any]]:
        return [] if self._step is None else [self._step]

    def _needs_all_steps(self) -> bool:
        return True


class RetryableTask(CompletableTask[T]):
    """An activity or a sub-orchestration with a retry policy."""


class CancellableTask(CompletableTask[T]):
    """A task that the orchestrator may stop waiting for."""

    def __init__(self) -> None:
        super().__init__()
        self._is_cancelled = False
        self._cancel_handler: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._is_cancelled

    @property
    def is_failed(self) -> bool:
        """Whether it ended with a failure; a cancelled task did not."""
        return not self._is_cancelled and super().is_failed

    def set_cancel_handler(self, handler: Callable[[], None]) -> None:
        """Set what ``cancel`` calls.

        Args:
            handler: Called once, without arguments, when the task is cancelled.
        """
        self._cancel_handler = handler

    def cancel(self) -> bool:
        """Stop waiting for the task.

        Returns:
            True if it was pending and is cancelled now, False if it had ended.
        """
        if self._is_complete:
            return False
        self._is_cancelled = True
        if self._cancel_handler is not None:
            self._cancel_handler()
        self._end(None, TaskCancelledError("the task was cancelled"))
        return True


class TimerTask(CancellableTask[None]):
    """A durable timer."""
