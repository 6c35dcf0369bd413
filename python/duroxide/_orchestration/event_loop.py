"""The event loop of ``async def`` orchestrations: asyncio itself, replayed the same from history.

Tasks, futures and everything that is built of them are the standard library's. What differs is underneath: nothing but a
recorded completion wakes the loop, one at a time and in the order of history; timers are durable; the clock is that of
the history; and whatever asyncio keeps in sets is ordered by when it was made, not by its address.
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
"""Callbacks that may run between two completions; beyond it the code is taken to spin."""

_FEWEST_TASKS_TO_SORT_OUT = 64


class OrchestrationLoop(asyncio.AbstractEventLoop):
    """Runs one orchestration. What would not be the same at every replay is refused where it is called.

    Args:
        steps: What the loop asks of the orchestration.

    Raises:
        ConfigurationError: This Python has no task groups and no timeouts.
    """

    def __init__(self, steps: LoopSteps) -> None:
        if not hasattr(asyncio, "timeout"):  # which came with Python 3.11, as all that the loop needs
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
        self._contexts: dict[int, contextvars.Context] = {}
        self._begun_in_order: dict[int, OrchestrationTask] = {}
        # Tasks of all loops meet in sets of asyncio's, so those of two orchestrations must not have the same numbers.
        self._count = zlib.crc32(steps.instance_id.encode()) << 24
        self._first = self._count
        self._found_as_garbage: list[AsyncGenerator[Any, Any]] = []
        self._halted = False
        self._refused: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._main: OrchestrationTask | None = None

    def __repr__(self) -> str:
        return f"<OrchestrationLoop of {self._steps.instance_id}>"

    # What the driver calls

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run the orchestration as far as it goes; whether it has ended."""
        # Nothing of what this thread happens to have in its context variables.
        context = contextvars.Context()
        self._main = self._begin_task(coroutine, name=self._steps.orchestration_name, context=context)
        return self.run_ready()

    def deliver(self, slot: int, value: Any, error: BaseException | None) -> bool:
        """End what waits for a step, and run; whether the orchestration has ended."""
        future = self._waits.pop(slot, None)
        if future is None:
            timer = self._timers.pop(slot, None)
            if timer is not None:
                self._ready.append(timer)
        elif not future.done():
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        return self.run_ready()

    def wait(self, slot: int) -> StepFuture:
        """Give the future of a step that is under way."""
        future = self._waits.get(slot)
        if future is None:
            future = self._waits[slot] = StepFuture(self, slot)
        return future

    def describe_branch(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Keep the context variables of whoever gives a coroutine to a combinator, which is what it will see."""
        self._contexts[id(coroutine)] = contextvars.copy_context()

    def begin_branch(self, branch: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run a coroutine that was given to a combinator of the context; whether the orchestration has ended."""
        context = self._contexts.pop(id(coroutine), None) or contextvars.Context()
        task = self._begin_task(coroutine, context=context)
        self._branches[id(coroutine)] = task
        task.add_done_callback(lambda task: self._end_branch(branch, id(coroutine), task))
        return self.run_ready()

    def cancel_branch(self, coroutine: Coroutine[Any, Any, Any]) -> bool | None:
        """Cancel such a coroutine; ``None`` if it is not run here, else whether the orchestration has ended."""
        task = self._branches.get(id(coroutine))
        if task is None:
            return None
        task.cancel()
        return self.run_ready()

    def run_ready(self) -> bool:
        """Call back until nobody is ready; whether the orchestration has ended."""
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
        """Raise ``CancelledError`` in the orchestration where it waits; whether it has ended."""
        if self._main is not None:
            self._main.cancel(reason)
        return self.run_ready()

    def is_cancelling(self) -> bool:
        """Tell whether the orchestration was asked to end, and has not refused with ``uncancel()``."""
        return self._main is not None and (cast("Any", self._main).cancelling() > 0 or self._main.cancelled())

    def check_not_cancelled(self) -> None:
        """Refuse a step that would carry a cancelled orchestration on."""
        if self.is_cancelling():
            raise asyncio.CancelledError("the orchestration was cancelled, and does not continue as new")

    def result(self) -> Any:
        """Give what the orchestration returned, or raise what it raised."""
        if self._main is None or not self._main.done():
            raise asyncio.CancelledError("the orchestration had no time left")
        return self._main.result()

    def halt(self) -> None:
        """Run nothing any more: the orchestration continues as new."""
        self._halted = True
        self._report_forgotten()

    def stuck(self) -> NotAllowedInOrchestration:
        """Describe how the orchestration waits for what nobody will ever bring."""
        waiting = "; ".join(_describe(task) for task in self._pending_tasks()[:5])
        return NotAllowedInOrchestration(
            f"orchestration '{self._steps.orchestration_name}' waits for nothing durable, and so would wait for ever: "
            f"{waiting}. Wait for an activity, a timer, an event or a queue, or for a task that does"
        )

    def end(self) -> None:
        """Cancel what the orchestration has left behind, as ``asyncio.run`` does; what does not end is to be abandoned."""
        self._ended = True
        for task in self._pending_tasks():
            task.cancel()
        self.run_ready()
        self._report_forgotten()

    def refuse_step(self) -> OrchestrationFuture:
        """Raise ``CancelledError`` in a task that goes on after the end; the second time, give it nothing to go on with."""
        task = asyncio.current_task()
        if task is not None and task not in self._refused:
            self._refused.add(task)
            raise asyncio.CancelledError("the orchestration has ended")
        return OrchestrationFuture(self)

    def abandon(self) -> list[OrchestrationTask]:
        """Let go of everything; the coroutines of the tasks that have not ended are to be closed by the caller."""
        self._ended = True
        pending = self._pending_tasks()
        for task in cast("list[Any]", self._tasks):
            # Another turn may still ask for its exception.
            keep_silent(task)
        self._ready.clear()
        self._tasks.clear()
        self._found_as_garbage.clear()
        self._refused.clear()
        for table in (self._waits, self._timers, self._branches, self._contexts, self._begun_in_order):
            table.clear()
        return pending

    def throw(self, task: OrchestrationTask, error: BaseException) -> Any:
        """Raise ``error`` in the coroutine of an abandoned task, which may ask for its loop and its task as ever.

        Returns:
            What it waits for next.

        Raises:
            BaseException: It has ended: with ``StopIteration``, or with what it raised.
        """
        coroutine: Any = task.get_coro()
        # It is told of its end by ``error``, and by nothing else.
        self._refused.add(task)
        before = running_loop()
        set_running_loop(self)
        enter_task(self, task)
        try:
            return coroutine.throw(error)
        finally:
            leave_task(self, task)
            set_running_loop(before)

    # What tasks and futures call

    def count(self) -> int:
        """Number what is put into sets."""
        self._count += 1
        return self._count

    def give_up(self, slot: int) -> None:
        """Cancel a step whose future was cancelled."""
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
        """Call back when a durable timer fires; at once, without one, if there is nothing to wait for."""
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
        """Make a task; those of ``as_completed`` are made in the order of its list."""
        # A step has a place in a set of its own.
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
        """Give the task of one of the coroutines of ``as_completed``, which come in the order of a set of addresses.

        With the first that comes, tasks are made of all, in the order of the list that they were given in.
        """
        if id(coroutine) not in self._begun_in_order:
            for each in coroutines_in_order(coroutine, given):
                if id(each) not in self._begun_in_order:
                    self._begun_in_order[id(each)] = self._begin_task(each)
        return self._begun_in_order.pop(id(coroutine))

    def time(self) -> float:
        """Give the seconds of history since the execution started."""
        return self._steps.time()

    def is_running(self) -> bool:
        """Tell whether code of the orchestration runs right now."""
        return running_loop() is self

    def is_closed(self) -> bool:
        """Answer ``False``: the runtime ends it."""
        return False

    def get_debug(self) -> bool:
        """Answer ``False``."""
        return False

    def get_task_factory(self) -> None:
        """Answer ``None``: all tasks are the loop's own."""

    def get_exception_handler(self) -> None:
        """Answer ``None``: what nobody handles is logged."""

    def _report_forgotten(self) -> None:
        """Log the exceptions of tasks that nobody has asked for, at the one moment when nobody can any more.

        Where they are raised, they are raised anew at every replay; and when their memory is freed is chance.
        """
        for task in self._tasks:
            if task is not self._main and task.done() and was_forgotten(task):
                message = f"the exception of task '{task.get_name()}' was never retrieved"
                self._log(message, task.exception())

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody handles."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody handles, unless that has happened before."""
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
            # When the garbage collector comes is chance, which must not run code; kept, it is not asked for again.
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
