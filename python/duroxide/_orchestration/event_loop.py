"""The event loop of ``async def`` orchestrations: asyncio itself, replayed the same from history.

Tasks, futures and everything built on them are those of the standard library. The loop under them differs: only a
recorded completion wakes it, one at a time and in the order of history; timers are durable; the clock is the clock of
the history; and the tasks and futures that asyncio keeps in sets are ordered by when they were made, not by their
addresses.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

from duroxide._native import Task
from duroxide._orchestration.asyncio_compat import (
    enter_task,
    futures_given_to_wait,
    given_to_as_completed,
    is_collecting_garbage,
    is_wrapping_future,
    keep_silent,
    leave_task,
    running_loop,
    set_running_loop,
    was_forgotten,
)
from duroxide._orchestration.loop_futures import OrchestrationFuture, OrchestrationTask, StepFuture, StepTimer
from duroxide._orchestration.loop_refusals import check_future, coroutines_in_order, refuse_methods
from duroxide.exceptions import ConfigurationError, NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from duroxide._native import LoopSteps

_T = TypeVar("_T")

_log = logging.getLogger("duroxide.orchestration")

_MOST_CALLBACKS = 1_000_000
"""Callbacks that may run between two completions; code that runs more is in an endless loop."""

_FEWEST_TASKS_TO_SORT_OUT = 64


class OrchestrationLoop(asyncio.AbstractEventLoop):
    """Runs one orchestration, and refuses calls whose effects a replay does not repeat.

    Args:
        steps: The native half of the orchestration, for timers, the clock and the ends of steps.

    Raises:
        ConfigurationError: This Python has no task groups and no timeouts.
    """

    def __init__(self, steps: LoopSteps) -> None:
        if not hasattr(asyncio, "timeout"):  # new in Python 3.11, with everything that the loop needs
            raise ConfigurationError(
                "an 'async def' orchestration needs Python 3.11 or later; write 'def' with 'yield' instead of 'await'"
            )
        self._steps = steps
        self._ready: deque[asyncio.Handle] = deque()
        self._waits: dict[int, StepFuture] = {}
        self._timers: dict[int, StepTimer] = {}
        self._tasks: list[OrchestrationTask] = []
        self._many_tasks = _FEWEST_TASKS_TO_SORT_OUT
        self._branches: dict[int, OrchestrationTask] = {}
        self._begun_in_order: dict[int, OrchestrationTask] = {}
        # asyncio keeps the tasks of all loops in the same sets, so tasks of two orchestrations must have different
        # numbers.
        self._count = zlib.crc32(steps.instance_id.encode()) << 24
        self._first = self._count
        self._found_as_garbage: list[AsyncGenerator[Any, Any]] = []
        self._halted = False
        self._refused: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._main: OrchestrationTask | None = None

    def __repr__(self) -> str:
        return f"<OrchestrationLoop of {self._steps.instance_id}>"

    # Called by the driver

    def begin(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> bool:
        """Run the orchestration until it waits; return whether it has ended."""
        self._main = self._begin_task(coroutine, name=self._steps.orchestration_name, context=context)
        return self.run_ready()

    def deliver(self, slot: int, value: Any, error: BaseException | None) -> bool:
        """Complete the future of a step, and run; return whether the orchestration has ended."""
        future = self._waits.pop(slot, None)
        if future is None:
            timer = self._timers.pop(slot, None)
            if timer is not None:
                self._ready.append(timer)
        elif future.end_request is not None:
            self._steps.give_up(future.end_request)
            future.end_as_asked()
        elif not future.done():
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        return self.run_ready()

    def wait(self, slot: int) -> StepFuture:
        """Return the future of a step that has not ended."""
        future = self._waits.get(slot)
        if future is None:
            future = self._waits[slot] = StepFuture(self, slot)
        return future

    def begin_branch(self, branch: int, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> bool:
        """Run a coroutine that was given to a combinator of the context; return whether the orchestration has ended."""
        task = self._begin_task(coroutine, context=context)
        self._branches[id(coroutine)] = task
        task.add_done_callback(lambda task: self._end_branch(branch, id(coroutine), task))
        return self.run_ready()

    def cancel_branch(self, coroutine: Coroutine[Any, Any, Any]) -> bool | None:
        """Cancel such a coroutine; return whether the orchestration has ended, or ``None`` for an unknown one."""
        task = self._branches.get(id(coroutine))
        if task is None:
            return None
        task.cancel()
        return self.run_ready()

    def run_ready(self) -> bool:
        """Run callbacks until none is ready; return whether the orchestration has ended."""
        main, ready = self._main, self._ready
        if main is None:
            return False
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize)
        set_running_loop(self)
        try:
            callbacks = 0
            while ready and not self._halted and (self._ended or not main.done()):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                callbacks += 1
                if callbacks >= _MOST_CALLBACKS:
                    raise NotAllowedInOrchestration(
                        f"orchestration '{self._steps.orchestration_name}' ran {callbacks} callbacks without waiting "
                        "for anything durable; a loop around asyncio.sleep(0) never ends here: wait for an activity, "
                        "a timer, an event or a queue"
                    )
        finally:
            set_running_loop(None)
            sys.set_asyncgen_hooks(*before)
        return main.done()

    def cancel(self, reason: str) -> bool:
        """Raise ``CancelledError`` in the orchestration where it waits; return whether it has ended."""
        if self._main is not None:
            self._main.cancel(reason)
        return self.run_ready()

    def is_cancelling(self) -> bool:
        """Tell whether the orchestration was cancelled, and has not refused with ``uncancel()``."""
        return self._main is not None and (cast("Any", self._main).cancelling() > 0 or self._main.cancelled())

    def runs_main(self) -> bool:
        """Tell whether the calling code is that of the orchestration itself, and not of a task that it has made."""
        return asyncio.current_task() is self._main

    def check_not_cancelled(self) -> None:
        """Refuse to continue a cancelled orchestration as new."""
        if self.is_cancelling():
            raise asyncio.CancelledError("the orchestration was cancelled, and does not continue as new")

    def result(self) -> Any:
        """Return the value that the orchestration returned, or raise its exception."""
        if self._main is None or not self._main.done():
            raise asyncio.CancelledError("the orchestration had no time left")
        return self._main.result()

    def halt(self) -> None:
        """Stop running callbacks: the orchestration continues as new."""
        self._halted = True
        self._report_forgotten()

    def stuck(self) -> NotAllowedInOrchestration:
        """Describe an orchestration that waits for no durable step, and so for ever."""
        waiting = "; ".join(_describe(task) for task in self._pending_tasks()[:5])
        return NotAllowedInOrchestration(
            f"orchestration '{self._steps.orchestration_name}' waits for nothing durable, and so would wait for ever: "
            f"{waiting}. Wait for an activity, a timer, an event or a queue, or for a task that does"
        )

    def end(self) -> None:
        """Cancel the remaining tasks of an ended orchestration, as ``asyncio.run`` does."""
        self._ended = True
        for task in self._pending_tasks():
            task.cancel()
        self.run_ready()
        self._report_forgotten()

    def refuse_step(self) -> OrchestrationFuture:
        """Raise ``CancelledError`` in a task that continues after the end; then return a future that never ends."""
        task = asyncio.current_task()
        if task is not None and task not in self._refused:
            self._refused.add(task)
            raise asyncio.CancelledError("the orchestration has ended")
        return OrchestrationFuture(self)

    def abandon(self) -> list[OrchestrationTask]:
        """Drop all tasks and futures; the caller closes the coroutines of the returned tasks, which have not ended."""
        self._ended = True
        pending = self._pending_tasks()
        for task in cast("list[Any]", self._tasks):
            # Another turn may still read the exception of a failed task.
            keep_silent(task)
        self._ready.clear()
        self._tasks.clear()
        self._found_as_garbage.clear()
        self._refused.clear()
        for table in (self._waits, self._timers, self._branches, self._begun_in_order):
            table.clear()
        return pending

    def throw(self, task: OrchestrationTask, error: BaseException) -> Any:
        """Raise ``error`` in the coroutine of an abandoned task, in which the loop and the task stay the current ones.

        Returns:
            The object that it waits for next.

        Raises:
            BaseException: The coroutine has ended, with ``StopIteration`` or with its exception.
        """
        coroutine: Any = task.get_coro()
        # ``error`` alone ends it: ``refuse_step`` must not raise ``CancelledError`` in it.
        self._refused.add(task)
        before = running_loop()
        set_running_loop(self)
        enter_task(self, task)
        try:
            return task.variables.run(coroutine.throw, error)
        finally:
            leave_task(self, task)
            set_running_loop(before)

    # Called by tasks and futures

    def count(self) -> int:
        """Return the number of the next task or future, which is its hash."""
        self._count += 1
        return self._count

    @property
    def has_ended(self) -> bool:
        """Whether the orchestration has ended, so that no step is waited for any more."""
        return self._ended

    def ask_to_end(self, slot: int) -> int | None:
        """Ask the activity of a step to end, if its call says so; return the slot of the request."""
        return self._steps.ask_to_end(slot) if slot in self._waits else None

    def give_up(self, slot: int) -> None:
        """Give up a step whose future was cancelled."""
        if self._waits.pop(slot, None) is not None:
            self._steps.give_up(slot)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call back in this turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back when a durable timer fires; without a delay, call back in this turn and start no timer."""
        timer = StepTimer(self.time() + delay, callback, args, self, context)
        if self._ended and delay > 0:
            self.refuse_step()
        elif delay <= 0:
            self._ready.append(timer)
        else:
            timer.slot = self._steps.start_timer(delay)
            self._timers[timer.slot] = timer
        return timer

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a time of the loop."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: StepTimer) -> None:
        if handle.slot is not None and self._timers.pop(handle.slot, None) is not None:
            self._steps.give_up(handle.slot)

    def create_future(self) -> OrchestrationFuture:
        """Make a future for the tasks of this orchestration."""
        check_future(is_wrapping_future(), futures_given_to_wait())
        return OrchestrationFuture(self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[_T]:
        """Make a task; the tasks of ``as_completed`` are made in the order of its list."""
        # A step has its own place in a set, which a replay repeats.
        given = None if isinstance(coro, Task) else given_to_as_completed()
        if given is not None:
            return self._begin_in_order(coro, given)
        return self._begin_task(coro, name=name, context=context, **options)

    def _begin_task(self, coroutine: Any, *, name: str | None = None, **options: Any) -> OrchestrationTask:
        task = OrchestrationTask(coroutine, self, name=name or f"Task-{self._count - self._first + 1}", **options)
        self._tasks.append(task)
        if len(self._tasks) > self._many_tasks:
            self._tasks = [each for each in self._tasks if not each.done() or was_forgotten(each)]
            self._many_tasks = max(_FEWEST_TASKS_TO_SORT_OUT, 2 * len(self._tasks))
        return task

    def _begin_in_order(self, coroutine: Any, given: tuple[Any, ...]) -> OrchestrationTask:
        """Return the task of one of ``as_completed``'s coroutines, which arrive in the order of a set of addresses.

        At the first coroutine, the loop makes tasks for all of them, in the order of their list.
        """
        if id(coroutine) not in self._begun_in_order:
            for each in coroutines_in_order(coroutine, given):
                if id(each) not in self._begun_in_order:
                    self._begun_in_order[id(each)] = self._begin_task(each)
        return self._begun_in_order.pop(id(coroutine))

    def time(self) -> float:
        """Return the seconds of history since the execution started."""
        return self._steps.time()

    def is_running(self) -> bool:
        """Tell whether code of the orchestration runs now."""
        return running_loop() is self

    def is_closed(self) -> bool:
        """Return ``False``: the runtime ends the loop."""
        return False

    def get_debug(self) -> bool:
        """Return ``False``."""
        return False

    def get_task_factory(self) -> None:
        """Return ``None``: the loop makes all its tasks itself."""

    def get_exception_handler(self) -> None:
        """Return ``None``: the loop logs unhandled exceptions."""

    def _report_forgotten(self) -> None:
        """Log the exceptions of tasks that no code has read, when no code can read them any more.

        An exception is raised again at every replay, so this is not logged where it is raised; and the moment at which
        the memory of a task is freed is not deterministic.
        """
        for task in self._tasks:
            if task is not self._main and task.done() and was_forgotten(task):
                message = f"the exception of task '{task.get_name()}' was never retrieved"
                self._log(message, task.exception())

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an unhandled exception."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an unhandled exception, unless the orchestration has ended or the turn is a replay."""
        if not self._ended:
            self._log(context.get("message", "an exception was not handled"), context.get("exception"))

    def _log(self, message: str, error: BaseException | None) -> None:
        if self._steps.is_silent():
            return
        _log.error(
            "orchestration '%s': %s",
            self._steps.orchestration_name,
            message,
            exc_info=error,
            extra={"instance_id": self._steps.instance_id, "orchestration_name": self._steps.orchestration_name},
        )

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self.is_running() or self._ended:
            return
        if is_collecting_garbage():
            # The garbage collector runs at any time, so it must not run code of the orchestration. A generator that the
            # loop keeps is not finalized again.
            self._found_as_garbage.append(generator)
        else:
            self.create_task(generator.aclose())

    def _end_branch(self, branch: int, key: int, task: asyncio.Task[Any]) -> None:
        self._branches.pop(key, None)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._steps.end_branch(branch, None if error is not None else task.result(), error)

    def _pending_tasks(self) -> list[OrchestrationTask]:
        return [task for task in self._tasks if not task.done()]


def _describe(task: OrchestrationTask) -> str:
    stack = task.get_stack(limit=1)
    where = f" in {stack[0].f_code.co_name}, line {stack[0].f_lineno}" if stack else ""
    return f"task '{task.get_name()}' waits{where}"


refuse_methods(OrchestrationLoop)
