"""The event loop on which ``async def`` activities run: one thread, started when the first of them comes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from duroxide.ambient import running_activity

Done = Callable[[Any, BaseException | None], object]
"""Called with the result and ``None``, or with ``None`` and the exception."""


_STOP_SECONDS = 2.0


class ActivityCall:
    """One running activity; ``cancel`` may be called from any thread, at any time, more than once."""

    __slots__ = ("_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[tuple[Any, BaseException | None]] | None = None

    def cancel(self) -> None:
        """Raise ``CancelledError`` in the activity where it awaits; does nothing once it has ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so everything on it has ended
            self._loop.call_soon_threadsafe(self._cancel)

    def _start(self, body: Coroutine[Any, Any, tuple[Any, BaseException | None]], done: Done) -> None:
        # A callback of the task, since the body of a task that is cancelled before its first step never runs.
        self._task = self._loop.create_task(body)
        self._task.add_done_callback(lambda task: _report(task, done))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class ActivityLoop:
    """Runs ``async def`` activities on a loop and a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def run(
        self, function: Callable[[Any, Any], Coroutine[Any, Any, Any]], context: object, input: object, done: Done
    ) -> ActivityCall:
        """Start ``function(context, input)`` on the loop's thread.

        Args:
            function: The activity.
            context: Its ``ActivityContext``.
            input: Its input, converted.
            done: Called once, on the loop's thread, with the result and ``None``, or ``None`` and the exception; a
                cancelled activity gives a ``CancelledError``.

        Returns:
            An object with ``cancel()``.

        Raises:
            RuntimeError: The loop was stopped.
        """
        with self._lock:
            loop = self._running_loop()
            call = ActivityCall(loop)
            # A context of its own, so that what one activity sets is not seen by the next.
            loop.call_soon_threadsafe(
                lambda: call._start(_guard(function, context, input), done), context=contextvars.Context()
            )
        return call

    def stop(self) -> None:
        """Cancel what runs, wait two seconds for its end, and end the thread. Stopping twice does no harm."""
        with self._lock:
            self._stopped = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        # An activity that shuts its own runtime down runs on that thread, which cannot wait for itself.
        if thread is not None and thread is not threading.current_thread():
            # It is a daemon: an activity that blocks it or ignores its cancellation must not keep the process alive.
            thread.join(_STOP_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._stopped:
            raise RuntimeError("the loop of this runtime's activities has been stopped")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="duroxide-activities", daemon=True)
            self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
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


async def _guard(
    function: Callable[[Any, Any], Coroutine[Any, Any, Any]], context: Any, input: object
) -> tuple[Any, BaseException | None]:
    running_activity.set(context)  # the asyncio task has a contextvars context of its own
    try:
        return await function(context, input), None
    except BaseException as error:  # noqa: BLE001  (asyncio lets SystemExit and KeyboardInterrupt end the whole loop)
        return None, error


def _report(task: asyncio.Task[tuple[Any, BaseException | None]], done: Done) -> None:
    result, error = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
    done(result, error)
