"""The event loop's uses of asyncio and the interpreter beyond their documented interface.

Every such use is in this module, and each has a test that fails on a Python that has changed it. Some functions read
the frames of asyncio's own functions, because asyncio passes the loop neither the list of ``as_completed`` nor the
reason why a future is made.
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import asyncio.tasks
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from types import FrameType

# Any loop needs these functions to run tasks, asyncio's own loops, too.
running_loop = asyncio._get_running_loop
set_running_loop = asyncio._set_running_loop
enter_task = asyncio.tasks._enter_task
leave_task = asyncio.tasks._leave_task

# ``asyncio.all_tasks`` calls this function to get the loop of each task. From Python 3.14 on ``all_tasks`` is written
# in C and does not call it, so its tasks are not put in order.
_GET_LOOP = getattr(getattr(asyncio.futures, "_get_loop", None), "__code__", None)
_ALL_TASKS = getattr(asyncio.all_tasks, "__code__", None)
# The functions that make a future for the arguments of asyncio.wait() and asyncio.wrap_future().
_WAIT = getattr(getattr(asyncio.tasks, "_wait", None), "__code__", None)
_WRAP_FUTURE = asyncio.wrap_future.__code__


# The log entries of a task


def was_forgotten(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task failed and no code has read its exception yet."""
    return bool(task._log_traceback)


def keep_silent(task: asyncio.Task[Any]) -> None:
    """Keep a task that is freed from logging that it has not ended, or that no code has read its exception."""
    setattr(task, "_log_destroy_pending", False)  # noqa: B010  (no stub has it)
    if task.done():
        # asyncio accepts only False here.
        task._log_traceback = False


# The garbage collector


class _Collection:
    """Knows which thread runs the garbage collector."""

    thread: int | None = None

    def note(self, phase: str, _info: dict[str, int]) -> None:
        self.thread = threading.get_ident() if phase == "start" else None


_collection = _Collection()
gc.callbacks.append(_collection.note)


def is_collecting_garbage() -> bool:
    """Tell whether the garbage collector is the caller, in this thread."""
    return _collection.thread == threading.get_ident()


# The order of sets


def is_left_out_of_all_tasks(loop: asyncio.AbstractEventLoop, task_class: type[asyncio.Task[Any]]) -> bool:
    """Put the tasks of ``loop`` in order while ``asyncio.all_tasks`` reads the tasks of the process.

    The ``get_loop`` method of a task calls it. ``all_tasks`` takes the tasks from a set that also has the tasks of
    other orchestrations, and makes a set of them, so the order of both sets depends on other orchestrations. At the
    first task of ``loop``, this function puts all tasks of ``loop`` behind it, ordered by their hashes, which are their
    numbers.

    Args:
        loop: The loop of the task.
        task_class: The class of the tasks of ``loop``.

    Returns:
        Whether ``all_tasks`` must leave out the task at this place, because the list has it again at its ordered place.

    Raises:
        NotAllowedInOrchestration: The tasks cannot be put in order on this Python.
    """
    caller = sys._getframe(1).f_back
    if caller is None or caller.f_code is not _GET_LOOP:
        return False
    frame = _frame_of_all_tasks(caller.f_back)
    if frame is None or frame.f_locals.get("loop") is not loop:
        return False
    tasks: list[Any] | None = frame.f_locals.get("scheduled_tasks", frame.f_locals.get("tasks"))
    if type(tasks) is not list:
        raise NotAllowedInOrchestration(
            "asyncio.all_tasks has an order that differs at each replay; keep the tasks that you make, in a list or a "
            "TaskGroup"
        )
    if tasks[0] is None:
        return False
    own = [task for task in tasks if type(task) is task_class and asyncio.Task[Any].get_loop(task) is loop]
    # all_tasks has read the first place already. None there marks that the tasks are in order.
    met = next(place for place, task in enumerate(tasks) if task is own[0])
    tasks[met + 1 :] = sorted(own, key=hash)
    tasks[0] = None
    return True


def _frame_of_all_tasks(frame: FrameType | None) -> FrameType | None:
    """Find the frame of ``asyncio.all_tasks``; before Python 3.12, its comprehension has another frame."""
    if frame is not None and frame.f_code is not _ALL_TASKS:
        frame = frame.f_back
    return frame if frame is not None and frame.f_code is _ALL_TASKS else None


def futures_given_to_wait() -> set[Any] | None:
    """Return the arguments of ``asyncio.wait``, if it makes a future; a loop's ``create_future`` calls this."""
    caller = sys._getframe(2)
    if caller.f_code is not _WAIT:
        return None
    given: set[Any] = caller.f_locals["fs"]
    return given


def is_wrapping_future() -> bool:
    """Tell whether ``asyncio.wrap_future`` makes a future; a loop's ``create_future`` calls this."""
    return sys._getframe(2).f_code is _WRAP_FUTURE


def given_to_as_completed() -> tuple[Any, ...] | None:
    """Return the arguments of ``asyncio.as_completed`` in their order, if it makes a task.

    A loop's ``create_task`` calls this function.

    Returns:
        The items of a list or tuple; nothing for an iterable of another class, because its order is lost; ``None`` if
        another function makes the task.
    """
    frame = _frame_of_as_completed(sys._getframe(2))
    if frame is None:
        return None
    given: Any = frame.f_locals.get("fs", frame.f_locals.get("aws"))
    return tuple(given) if type(given) in (list, tuple) else ()


def _frame_of_as_completed(frame: FrameType | None) -> FrameType | None:
    if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
        return None
    if "ensure_future" not in frame.f_code.co_name:
        return None
    for _ in range(3):
        frame = frame.f_back
        if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
            return None
        # From Python 3.13 on, the constructor of an iterator makes the tasks.
        if frame.f_code.co_name == "as_completed" or "todo" in frame.f_code.co_varnames:
            return frame
    return None
