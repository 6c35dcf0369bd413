"""The event loop of ``async def`` orchestrations: asyncio itself, replayed the same from history.

Tasks, futures and everything that is built of them are the standard library's. What differs is underneath: nothing but a
recorded completion wakes the loop, one at a time and in the order of history; timers are durable; the clock is that of
the history; and whatever asyncio keeps in sets is ordered by when it was made, not by its address.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars
import logging
import sys
import zlib
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from duroxide._native import Task
from duroxide.exceptions import ConfigurationError, NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from types import FrameType

    from duroxide._native import LoopSteps

_log = logging.getLogger("duroxide.orchestration")

_MOST_CALLBACKS = 1_000_000
"""Callbacks that may run between two completions; beyond it the code is taken to spin."""

_FEWEST_TASKS_TO_SORT_OUT = 64

# The part of asyncio.wait() that makes a future.
_WAIT = getattr(getattr(asyncio.tasks, "_wait", None), "__code__", None)

# What cannot be replayed, by the method of a loop that begins it.
_REFUSED = {
    "runs a thread or an executor": ("run_in_executor", "set_default_executor", "shutdown_default_executor"),
    "is called from another thread": ("call_soon_threadsafe",),
    "opens a connection": (
        "create_connection",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "create_datagram_endpoint",
        "connect_accepted_socket",
        "start_tls",
        "sendfile",
    ),
    "resolves a name": ("getaddrinfo", "getnameinfo"),
    "uses a socket": (
        "sock_accept",
        "sock_connect",
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendfile",
        "sock_sendto",
    ),
    "waits for a file descriptor": (
        "add_reader",
        "remove_reader",
        "add_writer",
        "remove_writer",
        "connect_read_pipe",
        "connect_write_pipe",
    ),
    "starts a process": ("subprocess_exec", "subprocess_shell"),
    "handles a signal": ("add_signal_handler", "remove_signal_handler"),
    "belongs to whoever runs the loop, which is the runtime": (
        "run_forever",
        "run_until_complete",
        "stop",
        "close",
        "shutdown_asyncgens",
        "set_task_factory",
        "set_exception_handler",
        "set_debug",
    ),
}


class OrchestrationTask(asyncio.Task[Any]):
    """A task of asyncio whose place in a set depends on when it was made."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: OrchestrationLoop, **options: Any) -> None:
        # First, since asyncio puts it into a set at once.
        self._number = loop.count()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


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
        if not super().cancel(msg):
            return False
        self._orchestration_loop.give_up(self._slot)
        return True


class StepTimer(asyncio.TimerHandle):
    """A callback that a durable timer makes due."""

    slot: int | None = None


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
        self._halted = False
        self._ended = False
        self._main: OrchestrationTask | None = None

    def __repr__(self) -> str:
        return f"<OrchestrationLoop of {self._steps.instance_id}>"

    # What the driver calls

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run the orchestration as far as it goes; whether it has ended."""
        # Nothing of what this thread happens to have in its context variables.
        context = contextvars.Context()
        self._main = self.create_task(coroutine, name=self._steps.orchestration_name, context=context)
        return self._run()

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
        return self._run()

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
        task = self.create_task(coroutine, context=context)
        self._branches[id(coroutine)] = task
        task.add_done_callback(lambda task: self._end_branch(branch, id(coroutine), task))
        return self._run()

    def cancel_branch(self, coroutine: Coroutine[Any, Any, Any]) -> bool | None:
        """Cancel such a coroutine; ``None`` if it is not run here, else whether the orchestration has ended."""
        task = self._branches.get(id(coroutine))
        if task is None:
            return None
        task.cancel()
        return self._run()

    def cancel(self, reason: str) -> bool:
        """Raise ``CancelledError`` in the orchestration where it waits; whether it has ended."""
        assert self._main is not None
        self._main.cancel(reason)
        return self._run()

    def is_cancelling(self) -> bool:
        """Tell whether the orchestration was asked to end, and has not refused with ``uncancel()``."""
        return self._main is not None and self._main.cancelling() > 0

    def check_not_cancelled(self) -> None:
        """Refuse a step that would carry a cancelled orchestration on."""
        if self.is_cancelling():
            raise asyncio.CancelledError("the orchestration was cancelled, and does not continue as new")

    def result(self) -> Any:
        """Give what the orchestration returned, or raise what it raised."""
        assert self._main is not None
        if not self._main.done():
            raise asyncio.CancelledError("the orchestration had no time left")
        return self._main.result()

    def halt(self) -> None:
        """Run nothing any more: the orchestration continues as new."""
        self._halted = True

    def stuck(self) -> NotAllowedInOrchestration:
        """Describe how the orchestration waits for what nobody will ever bring."""
        waiting = "; ".join(_describe(task) for task in self._pending_tasks()[:5])
        return NotAllowedInOrchestration(
            f"orchestration '{self._steps.orchestration_name}' waits for nothing durable, and so would wait for ever: "
            f"{waiting}. Wait for an activity, a timer, an event or a queue, or for a task that does"
        )

    def end(self) -> None:
        """Cancel what the orchestration has left behind, as ``asyncio.run`` does."""
        self._ended = True
        for task in self._pending_tasks():
            task.cancel()
        self._run()
        self.abandon()

    def abandon(self) -> list[Coroutine[Any, Any, Any]]:
        """Let go of everything; the coroutines of what has not ended are to be closed by the caller."""
        self._ended = True
        pending = self._pending_tasks()
        for task in pending:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._ready.clear()
        self._tasks.clear()
        for table in (self._waits, self._timers, self._branches, self._contexts, self._begun_in_order):
            table.clear()
        coroutines = [task.get_coro() for task in pending]
        return [coroutine for coroutine in coroutines if coroutine is not None and type(coroutine) is not Task]

    # What tasks and futures call

    def count(self) -> int:
        """Number what is put into sets."""
        self._count += 1
        return self._count

    def give_up(self, slot: int) -> None:
        """Cancel a step whose future was cancelled."""
        if self._waits.pop(slot, None) is not None:
            self._steps.give_up(slot)

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = StepTimer(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(timer)
        else:
            timer.slot = self._steps.start_timer(delay)
            self._timers[timer.slot] = timer
        return timer

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: StepTimer) -> None:
        if handle.slot is not None and self._timers.pop(handle.slot, None) is not None:
            self._steps.give_up(handle.slot)

    def create_future(self) -> OrchestrationFuture:
        caller = sys._getframe(1)
        if caller.f_code is _WAIT:
            self._check_order(caller.f_locals["fs"])
        return OrchestrationFuture(self)

    def _check_order(self, futures: set[asyncio.Future[Any]]) -> None:
        """Refuse futures whose place in the sets of ``asyncio.wait`` is their address."""
        if len(futures) > 1 and not all(isinstance(each, OrchestrationTask | OrchestrationFuture) for each in futures):
            raise NotAllowedInOrchestration(
                "asyncio.wait puts what it is given into sets, whose order differs at each replay for futures that are not "
                "this loop's own, such as those of asyncio.gather; give it tasks: asyncio.create_task(...) around a "
                "coroutine that awaits them"
            )

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> OrchestrationTask:
        if type(coro) is not Task and (frame := _as_completed(sys._getframe(1))) is not None:
            return self._begin_in_order(coro, frame)
        task = OrchestrationTask(
            coro, self, name=name or f"Task-{self._count - self._first + 1}", context=context, **options
        )
        self._tasks.append(task)
        if len(self._tasks) > self._many_tasks:
            self._tasks = self._pending_tasks()
            self._many_tasks = max(_FEWEST_TASKS_TO_SORT_OUT, 2 * len(self._tasks))
        return task

    def _begin_in_order(self, coroutine: Coroutine[Any, Any, Any], frame: FrameType) -> OrchestrationTask:
        """Give the task of one of the coroutines of ``as_completed``, which come in the order of a set of addresses.

        With the first that comes, tasks are made of all, in the order of the list that they were given in.
        """
        if id(coroutine) not in self._begun_in_order:
            given = frame.f_locals.get("fs", frame.f_locals.get("aws"))
            ordered = given if isinstance(given, list | tuple) else []
            known = (CoroutineType, Task, OrchestrationTask, OrchestrationFuture)
            if not any(each is coroutine for each in ordered) or not all(isinstance(each, known) for each in ordered):
                coroutine.close()
                raise NotAllowedInOrchestration(
                    "asyncio.as_completed begins what it is given in the order of a set, which differs at each replay; "
                    "give it a list of coroutines, or of tasks, as in [asyncio.create_task(...) for ...]"
                )
            for each in ordered:
                if type(each) is CoroutineType and id(each) not in self._begun_in_order:
                    self._begun_in_order[id(each)] = self.create_task(each)
        return self._begun_in_order.pop(id(coroutine))

    def time(self) -> float:
        return self._steps.time()

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._ended or self._steps.is_silent():
            return
        _log.error(
            "orchestration '%s': %s",
            self._steps.orchestration_name,
            context.get("message", "an exception was not handled"),
            exc_info=context.get("exception"),
            extra={"instance_id": self._steps.instance_id, "orchestration_name": self._steps.orchestration_name},
        )

    def _run(self) -> bool:
        """Call back until nobody is ready; whether the orchestration has ended."""
        main, ready = self._main, self._ready
        assert main is not None
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize)
        asyncio._set_running_loop(self)
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
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*before)
        return main.done()

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.is_running() and not self._ended:
            self.create_task(generator.aclose())

    def _end_branch(self, branch: int, key: int, task: asyncio.Task[Any]) -> None:
        self._branches.pop(key, None)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._steps.end_branch(branch, None if error is not None else task.result(), error)

    def _pending_tasks(self) -> list[OrchestrationTask]:
        return [task for task in self._tasks if not task.done()]


def _as_completed(frame: FrameType | None) -> FrameType | None:
    """Find the frame of ``asyncio.as_completed``, if that is what creates a task."""
    if (
        frame is None
        or frame.f_globals.get("__name__") != "asyncio.tasks"
        or "ensure_future" not in frame.f_code.co_name
    ):
        return None
    for _ in range(3):
        frame = frame.f_back
        if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
            return None
        if frame.f_code.co_name == "as_completed" or "todo" in frame.f_code.co_varnames:
            return frame
    return None


def _describe(task: OrchestrationTask) -> str:
    stack = task.get_stack(limit=1)
    where = f" in {stack[0].f_code.co_name}, line {stack[0].f_lineno}" if stack else ""
    return f"task '{task.get_name()}' waits{where}"


def _refusal(name: str, what: str) -> Any:
    def refuse(self: OrchestrationLoop, *_arguments: Any, **_options: Any) -> Any:
        raise NotAllowedInOrchestration(
            f"the loop's {name}() {what}, which cannot be replayed inside an orchestration; do it in an activity"
        )

    refuse.__name__ = name
    refuse.__qualname__ = f"OrchestrationLoop.{name}"
    refuse.__doc__ = f"Refused: it {what}."
    return refuse


for _what, _names in _REFUSED.items():
    for _name in _names:
        setattr(OrchestrationLoop, _name, _refusal(_name, _what))
