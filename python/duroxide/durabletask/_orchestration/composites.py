"""Tasks that wait for several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

from duroxide import Task as Step
from duroxide.durabletask._orchestration.tasks import Group, Task

T = TypeVar("T")
R = TypeVar("R")


class CompositeTask(Task[R], Group, Generic[T, R]):
    """A task that waits for several tasks.

    Args:
        tasks: The tasks. A task may be in several groups, and more than once in one.
    """

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__()
        self._tasks = list(tasks)
        for task in self._tasks:
            if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"a group is made of tasks, and {type(task).__name__} is none: call ctx.call_activity(...)"
                )
        self._distinct = list(dict.fromkeys(self._tasks))
        for task in self._distinct:
            if not task.is_complete:
                task._groups.append(self)

    def get_tasks(self) -> list[Task[T]]:
        """Return the tasks, in the order in which they were given."""
        return list(self._tasks)

    def _open_tasks(self) -> list[Task[T]]:
        return [task for task in self._distinct if not task.is_complete]

    def _steps(self) -> list[Step[Any]]:
        return [step for task in self._open_tasks() for step in task._steps()]

    def _mark_yielded(self) -> None:
        super()._mark_yielded()
        for task in self._distinct:
            task._mark_yielded()


class WhenAllTask(CompositeTask[T, "list[T]"]):
    """Waits for all tasks, and then has their results, or the first failure.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        self._first_failure: BaseException | None = None
        self._pending = len(self._open_tasks())
        for task in self._distinct:
            if task.is_complete:
                self._note_failure(task)
        self._end_if_done()

    @property
    def pending_tasks(self) -> int:
        """How many tasks have not ended."""
        return self._pending

    def get_completed_tasks(self) -> int:
        """Return how many tasks have ended."""
        return len(self._distinct) - self._pending

    def note_end(self, task: Task[Any]) -> None:
        """Count the end of ``task``."""
        self._pending -= 1
        self._note_failure(task)
        self._end_if_done()

    def _note_failure(self, task: Task[Any]) -> None:
        if self._first_failure is None:
            self._first_failure = task._exception

    def _end_if_done(self) -> None:
        if self._pending:
            return
        if self._first_failure is not None:
            self._end(None, self._first_failure)
        else:
            self._end([cast("T", task._result) for task in self._tasks], None)

    def _needs_all_steps(self) -> bool:
        return all(task._needs_all_steps() for task in self._open_tasks())


class WhenAnyTask(CompositeTask[T, "Task[T]"]):
    """Waits for the first task to end, and then has that task, which may have failed; the others continue.

    Args:
        tasks: The tasks.

    Raises:
        ValueError: There are no tasks.
    """

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        if not self._tasks:
            raise ValueError("when_any of no tasks would never end: give it at least one task")
        ended = next((task for task in self._tasks if task.is_complete), None)
        if ended is not None:
            self._end(ended, None)

    def note_end(self, task: Task[Any]) -> None:
        """Take ``task`` for the winner if it is the first to end."""
        if not self._is_complete:
            self._end(task, None)

    def _needs_all_steps(self) -> bool:
        return len(self._distinct) == 1 and self._distinct[0]._needs_all_steps()


def when_all(tasks: Sequence[Task[T]]) -> WhenAllTask[T]:
    """Wait for all tasks. Without tasks, the group has ended, with an empty list.

    Args:
        tasks: The tasks.

    Returns:
        A task with the results, in the order of ``tasks``. If tasks failed, it raises the first failure after all tasks
        have ended.
    """
    return WhenAllTask(tasks)


def when_any(tasks: Sequence[Task[Any]]) -> WhenAnyTask[Any]:
    """Wait for the first of several tasks.

    Args:
        tasks: The tasks, at least one.

    Returns:
        A task with the task that ended first. It does not raise that task's failure. The other tasks continue.

    Raises:
        ValueError: There are no tasks.
    """
    return WhenAnyTask(tasks)
