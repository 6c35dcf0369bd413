"""The event loops on which ``async def`` activities run: a runtime's own, or the application's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from duroxide._runtime.current_context import running_activity
from duroxide._runtime.forked_child import end_if_forked
from duroxide._values.codec import convert, decode

Done = Callable[[Any, BaseException | None], object]
"""Called with the result and ``None``, or with ``None`` and the exception. If it is never called, the activity was cut
off and runs again."""

AsyncFunction = Callable[[Any, Any], Coroutine[Any, Any, Any]]
End = tuple[Any, "BaseException | None"]

_log = logging.getLogger("duroxide.activity")

_STOP_SECONDS = 2.0


class RunningActivity(Protocol):
    """An activity that a host runs."""

    def cancel(self) -> None:
        """Request its cancellation; may be called from any thread, at any time, more than once."""
        ...

    def has_begun(self) -> bool:
        """Tell whether its code has begun; an activity may wait in the queue of a pool."""
        ...


class ActivityHost(Protocol):
    """Runs activities that do not run on the threads of the runtime."""

    def run(
        self, function: Callable[[Any, Any], Any], input_type: Any, context: Any, text: str, done: Done
    ) -> RunningActivity:
        """Start an activity.

        Args:
            function: The activity, called with the context and the input.
            input_type: Type to convert the input to, or ``None``.
            context: Its ``ActivityContext``.
            text: Its recorded input.
            done: Called once when the activity ends, on any thread.

        Returns:
            An object with ``cancel()``.

        Raises:
            CodecError: The input does not fit ``input_type``.
            RuntimeError: The host was stopped.
        """
        ...

    def stop(self) -> None:
        """Cancel running activities, and wait at most two seconds for their end; may be called twice."""
        ...


class ActivityCall:
    """One activity on a loop."""

    __slots__ = ("_asked", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked = False
        self._task: asyncio.Task[End] | None = None

    def cancel(self) -> None:
        """Raise ``CancelledError`` in the activity where it awaits; does nothing once it has ended."""
        self._asked = True
        with contextlib.suppress(RuntimeError):  # a closed loop has ended all its tasks
            self._loop.call_soon_threadsafe(self._cancel)

    def has_begun(self) -> bool:
        """Tell whether its code has begun; a loop has no queue."""
        return True

    def start(self, body: Coroutine[Any, Any, End], done: Done) -> asyncio.Task[End]:
        """Start its task, on the loop's thread."""
        self._task = task = self._loop.create_task(body)
        # A callback of the task reports the end, because the body of a task that is cancelled before its first step
        # never runs.
        task.add_done_callback(lambda task: self._report(task, done))
        return task

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _report(self, task: asyncio.Task[End], done: Done) -> None:
        result, error = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        if isinstance(error, asyncio.CancelledError) and not self._asked and _was_cancelled(task):
            return  # the end of the loop cancelled it, as ``asyncio.run`` does: the activity has not failed
        done(result, error)


class ActivityLoop:
    """Runs ``async def`` activities on the runtime's own loop and thread, which start with the first activity."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._is_stopping = threading.Event()

    def run(self, function: AsyncFunction, input_type: Any, context: Any, text: str, done: Done) -> ActivityCall:
        """Start an activity on the loop's thread; see ``ActivityHost``."""
        value = convert(decode(text), input_type)
        with self._lock:
            if self._stopped:
                raise RuntimeError("the loop of this runtime's activities has been stopped")
            loop = self._running_loop()
            call = ActivityCall(loop)
            _call_on(loop, lambda: call.start(_guard(function, context, value), done))
        return call

    def stop(self) -> None:
        """Cancel running activities, wait two seconds for their end, and end the thread; may be called twice."""
        with self._lock:
            self._stopped = True
            self._is_stopping.set()
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        # An activity that shuts its runtime down runs on this thread, which cannot wait for itself.
        if thread is not None and thread is not threading.current_thread():
            # The thread is a daemon: an activity that blocks it or ignores its cancellation must not keep the process
            # alive.
            thread.join(_STOP_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_serve, args=(loop, self._is_stopping), name="duroxide-activities", daemon=True
            )
            try:
                thread.start()
            except BaseException:
                # Without a thread the loop would take activities and never run them.
                loop.close()
                raise
            self._loop, self._thread = loop, thread
        return self._loop


class ApplicationLoop:
    """Runs ``async def`` activities on the application's loop; the constructor must run on that loop.

    Args:
        when_closed: Called once, when an activity arrives after the application has closed the loop.
    """

    def __init__(self, when_closed: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._when_closed = when_closed
        self._lock = threading.Lock()
        self._is_closed = False
        # Only the loop's thread uses these two.
        self._tasks: set[asyncio.Task[End]] = set()
        self._stopped = False
        self._all_ended = threading.Event()

    def run(self, function: AsyncFunction, input_type: Any, context: Any, text: str, done: Done) -> ActivityCall:
        """Start an activity on the loop; see ``ActivityHost``."""
        value = convert(decode(text), input_type)
        call = ActivityCall(self._loop)

        def start() -> None:
            if not self._stopped:
                task = call.start(_guard(function, context, value), done)
                self._tasks.add(task)
                task.add_done_callback(self._end)

        try:
            _call_on(self._loop, start)
        except RuntimeError:
            with self._lock:
                is_first, self._is_closed = not self._is_closed, True
            if is_first:
                self._when_closed()
        return call

    def stop(self) -> None:
        """Cancel running activities, and wait two seconds for their end; may be called twice."""
        with contextlib.suppress(RuntimeError):  # a closed loop has ended all its tasks
            self._loop.call_soon_threadsafe(self._cancel_all)
            # A shutdown that blocks the loop cannot wait for the loop's tasks.
            if threading.get_ident() != self._thread:
                self._all_ended.wait(_STOP_SECONDS)

    def _end(self, task: asyncio.Task[End]) -> None:
        self._tasks.discard(task)
        if self._stopped and not self._tasks:
            self._all_ended.set()

    def _cancel_all(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            self._all_ended.set()


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call back on the thread of ``loop``, in a new context: an activity must not see the variables of another."""
    loop.call_soon_threadsafe(callback, context=contextvars.Context())


def _was_cancelled(task: asyncio.Task[End]) -> bool:
    """Tell whether the task itself was cancelled, and not an object that it awaited; always True before Python 3.11."""
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return cancelling is None or cancelling() > 0


def _serve(loop: asyncio.AbstractEventLoop, is_stopping: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    try:
        _run_until(loop, is_stopping)
        pending = asyncio.all_tasks(loop)
        while pending:
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            pending = asyncio.all_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _run_until(loop: asyncio.AbstractEventLoop, is_stopping: threading.Event) -> None:
    """Run a loop until the runtime stops it: no activity can.

    asyncio lets a SystemExit or KeyboardInterrupt of a task end its loop. The task has the exception, too, so whatever
    awaits the task gets it, and the other activities continue.
    """
    while not is_stopping.is_set():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:  # noqa: PERF203  (the loop continues)
            _log.warning("a task of an activity raised %s, which does not end the loop", type(error).__name__)


async def _guard(function: AsyncFunction, context: Any, value: object) -> End:
    running_activity.set(context)  # in the context of this asyncio task
    process = os.getpid()
    try:
        result = await function(context, value)
    except BaseException as error:  # noqa: BLE001  (SystemExit and KeyboardInterrupt would end the whole loop)
        end_if_forked(process, error)
        return None, error
    end_if_forked(process)
    return result, None
