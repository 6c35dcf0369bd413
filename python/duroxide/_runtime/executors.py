"""Runs sync activities in the application's executor: threads, or processes for activities that compute."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from duroxide._declare.definitions import ActivityDefinition
from duroxide._native import RawText
from duroxide._runtime.current_context import running_activity
from duroxide._runtime.process_calls import FailedInProcess, FunctionAddress, ProcessEnd, run_in_copy, run_in_process
from duroxide._runtime.process_context import ProcessActivityContext
from duroxide._values.codec import convert, decode
from duroxide._values.failures import FailureRecord
from duroxide.exceptions import ConfigurationError, RegistrationError

if TYPE_CHECKING:
    from duroxide._runtime.activity_loop import ActivityHost, Done

ExecutorChoice = Executor | Callable[[], Executor]
"""An executor, or a function that makes one."""

_log = logging.getLogger("duroxide.activity")

_MOST_BROKEN_POOLS = 3
"""Broken executors after which an activity's attempt fails: a function that made three of them will make more."""


class PoolCall:
    """One activity in an executor."""

    def __init__(self, future: Future[Any] | None, done: Done | None) -> None:
        self._future = future
        self._done = done
        self.was_asked = False

    def cancel(self) -> None:
        """Take the activity back if it has not begun; if it runs, it continues and its result is dropped."""
        self.was_asked = True
        if self._future is not None:
            self._future.cancel()

    def has_begun(self) -> bool:
        """Tell whether the executor has begun the call."""
        return self._future is not None and (self._future.running() or self._future.done())

    def end(self, result: Any, error: BaseException | None) -> None:
        """Report how the activity ended."""
        if self._done is not None:
            self._done(result, error)
        self._done = None

    def cut_off(self) -> None:
        """Drop the call without reporting an end, so that the activity runs again."""
        # The executor may keep the call for a long time.
        self._done = None


class Pool:
    """Runs sync activities in an executor of ``concurrent.futures``.

    Args:
        choice: An executor, which the application owns; or a function that makes one. The pool makes it when the
            runtime starts, replaces it when it is broken, and shuts it down with the runtime.
    """

    def __init__(self, choice: ExecutorChoice) -> None:
        self._make = None if isinstance(choice, Executor) else choice
        self._executor = choice if isinstance(choice, Executor) else None
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._stopped = False

    def run(
        self, function: Callable[[Any, Any], Any], input_type: Any, context: Any, text: str, done: Done
    ) -> PoolCall:
        """Hand an activity to the executor; see ``ActivityHost``."""
        kind = BrokenExecutor.__name__
        for _ in range(_MOST_BROKEN_POOLS):
            executor = self._current()
            try:
                return self._submit(executor, function, input_type, context, text, done)
            except BrokenExecutor as error:
                kind = type(error).__name__
                if self._make is None:
                    raise self._broken(context.activity_name, error) from error
                self._replace(executor)
        message = (
            f"executor() gave {_MOST_BROKEN_POOLS} pools, one after the other, that were broken when activity "
            f"'{context.activity_name}' came; let it make a new pool each time, and see that its processes start"
        )
        raise FailedInProcess(FailureRecord(kind, message, retryable=True), "")

    def _submit(  # noqa: PLR0917  (the arguments of ``run``)
        self,
        executor: Executor,
        function: Callable[[Any, Any], Any],
        input_type: Any,
        context: Any,
        text: str,
        done: Done,
    ) -> PoolCall:
        try:
            if isinstance(executor, ThreadPoolExecutor):
                future = executor.submit(
                    run_in_copy, _run_on_thread, function, context, convert(decode(text), input_type)
                )
            else:
                definition = ActivityDefinition(context.activity_name, function, is_async=False)
                place = ProcessActivityContext.of(context)
                future = executor.submit(run_in_copy, run_in_process, FunctionAddress.of(definition), place, text)
        except BrokenExecutor:
            raise
        except RuntimeError as error:
            # The executor was shut down. The call reports no end, so the activity does not fail, and runs again later.
            # The log gets only the text, because the error would keep this frame and its variables alive.
            reason = str(error)
            _log.warning(
                "activity '%s' waits: the executor of its runtime takes no work: %s", context.activity_name, reason
            )
            return PoolCall(None, None)
        call = PoolCall(future, done)
        with self._lock:
            self._futures.add(future)
        future.add_done_callback(lambda future: self._end(call, executor, future, context))
        return call

    def check(self, definitions: Iterable[ActivityDefinition]) -> None:
        """Refuse activities that the executor cannot run.

        Raises:
            RegistrationError: One of the activities cannot be found from another process.
        """
        if not isinstance(self._current(), ThreadPoolExecutor):
            for definition in definitions:
                FunctionAddress.of(definition)

    def stop(self) -> None:
        """Take back calls that have not begun, and shut down an executor that the pool made; may be called twice."""
        with self._lock:
            self._stopped = True
            futures = list(self._futures)
            executor = self._executor if self._make is not None else None
        for future in futures:
            future.cancel()
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def _current(self) -> Executor:
        with self._lock:
            if self._stopped:
                raise RuntimeError("the pool of this runtime's activities has been stopped")
            if self._executor is None:
                made: Any = self._make() if self._make is not None else None
                if not isinstance(made, Executor):
                    raise ConfigurationError(
                        f"executor() gave a {type(made).__name__}; it must give an executor of concurrent.futures"
                    )
                self._executor = made
            return self._executor

    def _replace(self, broken: Executor) -> None:
        """Let the next activity make a new executor, if the pool makes them."""
        with self._lock:
            if self._make is None or self._executor is not broken:
                return
            self._executor = None
        broken.shutdown(wait=False, cancel_futures=True)

    def _broken(self, name: str, error: BrokenExecutor) -> FailedInProcess:
        way_out = (
            "the next attempt gets a new pool"
            if self._make is not None
            else "a broken pool stays so: give what makes one, as in executor=lambda: ProcessPoolExecutor()"
        )
        message = f"a process of the pool ended while activity '{name}' was in it; {way_out}"
        return FailedInProcess(FailureRecord(type(error).__name__, message, retryable=True), "")

    def _end(self, call: PoolCall, executor: Executor, future: Future[Any], context: Any) -> None:
        with self._lock:
            self._futures.discard(future)
        try:
            self._tell(call, executor, future, context)
        except BaseException as error:  # noqa: BLE001  (an activity without an end would hang)
            call.end(None, error)

    def _tell(self, call: PoolCall, executor: Executor, future: Future[Any], context: Any) -> None:
        if future.cancelled():
            if call.was_asked:
                call.end(None, FailedInProcess(FailureRecord("CancelledError", "it was cancelled before it began"), ""))
            else:
                call.cut_off()  # the runtime or the executor ended
            return
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            self._replace(executor)
            call.end(None, self._broken(context.activity_name, error))
        elif error is not None:
            call.end(None, error)
        elif isinstance(end := future.result(), ProcessEnd):
            # Write the traces before the end, so that the log has them when the result is known.
            _write(end.traces, context)
            if end.failure is None:
                call.end(RawText(end.result or "null"), None)
            else:
                call.end(None, FailedInProcess(FailureRecord.from_text(end.failure), end.traceback))
        else:
            call.end(end, None)


def _write(traces: list[tuple[str, str]], context: Any) -> None:
    """Log an activity's traces from another process; an error of the log does not fail the activity."""
    for level, message in traces:
        try:
            getattr(context, level)(message)
        except Exception:  # noqa: BLE001, PERF203  (the next trace may be logged)
            _log.exception("a trace of activity %r could not be logged", context.activity_name)


def _run_on_thread(function: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    running_activity.set(context)
    return function(context, value)


def check_executor(choice: object) -> None:
    """Refuse an object that is not a choice of executors.

    Raises:
        TypeError: It is neither an executor, nor a function that makes one, nor a mapping of activities to these.
    """
    for each in cast("Mapping[str, object]", choice).values() if isinstance(choice, Mapping) else [choice]:
        if each is not None and not isinstance(each, Executor) and not callable(each):
            raise TypeError(
                f"executor must be an executor of concurrent.futures, a function that makes one, or a mapping of names "
                f"of activities to these, not {type(each).__name__}"
            )


def place_activities(
    definitions: Mapping[str, ActivityDefinition],
    loop: ActivityHost,
    choice: ExecutorChoice | Mapping[str, ExecutorChoice] | None,
) -> dict[str, ActivityHost]:
    """Return the hosts of the activities that do not run on the threads of the runtime, by name.

    Args:
        definitions: All activities, by name.
        loop: The host of ``async def`` activities.
        choice: The executor of all other activities, or executors by the name of an activity; ``None`` for none.

    Raises:
        RegistrationError: ``choice`` names an activity that is not registered or is ``async def``, or an activity
            cannot be found from another process.
    """
    hosts: dict[str, ActivityHost] = {name: loop for name, each in definitions.items() if each.is_async}
    if choice is None:
        return hosts
    by_name: Any = choice
    chosen: Mapping[str, ExecutorChoice] = (
        by_name
        if isinstance(choice, Mapping)
        else dict.fromkeys((name for name in definitions if name not in hosts), choice)
    )
    pools: dict[int, Pool] = {}
    for name, executor in chosen.items():
        if name not in definitions:
            raise RegistrationError(f"executor names activity '{name}', which is not registered")
        if name in hosts:
            raise RegistrationError(f"executor names activity '{name}', which is an 'async def' and runs on a loop")
        pool = pools.setdefault(id(executor), Pool(executor))
        pool.check([definitions[name]])
        hosts[name] = pool
    return hosts
