"""The tasks and futures of the event loop of an orchestration: asyncio's own, but for their place in a set."""

from __future__ import annotations

import asyncio
import asyncio.futures
import sys
from typing import TYPE_CHECKING, Any, cast

from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import FrameType

    from duroxide._orchestration.event_loop import OrchestrationLoop

# Where ``asyncio.all_tasks`` asks each task for its loop; in C, as it is from Python 3.14 on, it asks none.
_GET_LOOP = getattr(getattr(asyncio.futures, "_get_loop", None), "__code__", None)
_ALL_TASKS = getattr(asyncio.all_tasks, "__code__", None)


class OrchestrationTask(asyncio.Task[Any]):
    """A task of asyncio whose place in a set depends on when it was made."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], loop: OrchestrationLoop, **options: Any
    ) -> None:
        # First, since asyncio puts it into a set at once.
        self._number = loop.count()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether it runs on ``loop``."""
        return super().get_loop() is loop

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Give its loop."""
        loop = super().get_loop()
        caller = sys._getframe().f_back
        if caller is not None and caller.f_code is _GET_LOOP:
            frame = _calling_all_tasks(caller.f_back)
            if frame is not None and frame.f_locals.get("loop") is loop and _is_out_of_order(frame, loop):
                # It stands in the list once more, in its place.
                return cast("asyncio.AbstractEventLoop", None)
        return loop


def _calling_all_tasks(frame: FrameType | None) -> FrameType | None:
    """Find the frame of ``asyncio.all_tasks``, which may ask in a comprehension of its own."""
    if frame is not None and frame.f_code is not _ALL_TASKS:
        frame = frame.f_back
    return frame if frame is not None and frame.f_code is _ALL_TASKS else None


def _is_out_of_order(frame: FrameType, loop: asyncio.AbstractEventLoop) -> bool:
    """Put the tasks of ``loop`` in order where ``asyncio.all_tasks`` goes through those of the process.

    Their order is that of a set, in which the tasks of other orchestrations stand, too; and it decides about that of the
    set which is made of them. With the first of them that is met all are put behind it, by their numbers.

    Returns:
        Whether the list was out of order until now.
    """
    tasks: list[Any] | None = frame.f_locals.get("scheduled_tasks", frame.f_locals.get("tasks"))
    if type(tasks) is not list:
        raise NotAllowedInOrchestration(
            "asyncio.all_tasks has an order that differs at each replay; keep the tasks that you make, in a list or a TaskGroup"
        )
    if tasks[0] is None:
        return False
    own = [task for task in tasks if type(task) is OrchestrationTask and task.is_of(loop)]
    # The first place was looked at already, and tells from now on that this is done. None of the others is asked for.
    met = next(place for place, task in enumerate(tasks) if task is own[0])
    tasks[met + 1 :] = sorted(own, key=hash)
    tasks[0] = None
    return True


class OrchestrationFuture(asyncio.Future[Any]):
    """A future of asyncio whose place in a set depends on when it was made."""

    def __init__(self, loop: OrchestrationLoop) -> None:
        self._number = loop.count()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class StepFuture(OrchestrationFuture):
    """What the code waits for while a durable step is under way; to cancel it is to give the step up."""

    def __init__(self, loop: OrchestrationLoop, slot: int) -> None:
        super().__init__(loop)
        self._orchestration_loop = loop
        self._slot = slot

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up the step, unless it has ended."""
        if not super().cancel(msg):
            return False
        self._orchestration_loop.give_up(self._slot)
        return True


class StepTimer(asyncio.TimerHandle):
    """A callback that a durable timer makes due."""

    slot: int | None = None
