"""The runtime: holds the registered functions and runs the work of a store."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import Any, TypeVar, overload

from duroxide import _native
from duroxide._client.async_client import AsyncClient
from duroxide._client.client import Client, check_provider
from duroxide._client.records import MetricsSnapshot
from duroxide._declare.declarations import Activity, Orchestration
from duroxide._declare.definitions import ActivityDefinition, Function, OrchestrationDefinition, is_same_function
from duroxide._orchestration.strict import is_strict
from duroxide._runtime.activity_loop import ActivityHost, ActivityLoop, ApplicationLoop
from duroxide._runtime.cut_off import note_exit
from duroxide._runtime.executors import ExecutorChoice, check_executor, place_activities
from duroxide._runtime.options import RuntimeOptions
from duroxide._runtime.printed_logs import print_records
from duroxide._runtime.run_in_thread import run_in_thread
from duroxide._store.providers import Provider
from duroxide._transactions.outbox import Outbox, check_outboxes
from duroxide._transactions.relay import OutboxThread
from duroxide._values.green_threads import patched_by
from duroxide._values.validation import check_milliseconds
from duroxide._values.versions import version_order
from duroxide.exceptions import ConfigurationError, DuroxideError, RegistrationError

AnyFunction = TypeVar("AnyFunction", bound=Function)

DEFAULT_SHUTDOWN_MS = 5_000
"""The default of how long a shutdown waits for running work, in milliseconds."""

# Runtimes that were started and not shut down. They work until the end of the process, which shuts them down, even if no
# variable of the program holds them.
_running: set[Runtime] = set()


class Runtime:
    """Runs the orchestrations and activities of one store in this process.

    Register functions, then call ``start()``. ``with`` starts the runtime and shuts it down at its end; the end of the
    process shuts it down, too. ``async with`` does both without blocking the loop. While it is open, ``async def``
    activities run on that loop; otherwise they run on a loop and a thread of the runtime.

    Args:
        provider: The opened store.
        options: Options; default ``None``, the defaults of ``RuntimeOptions``.
        functions: Functions to register; default none. A declared function, from ``@activity`` or ``@orchestration``,
            and a definition are registered under their names. A module stands for all functions that are declared in
            it. A plain function takes a context and an input, and is registered under its ``__name__``: a generator
            function as an orchestration, any other as an activity.
        executor: Where activities run that are not ``async def``; default ``None``, on threads of the runtime, one for
            each running activity. An executor of ``concurrent.futures``, such as a ``ProcessPoolExecutor`` for
            activities that compute, stays yours. A function that returns an executor lets the runtime shut the executor
            down, and replace it when one of its processes has died. A mapping gives the activities that it names one of
            these two; the others run as by default. In another process an activity gets a ``ProcessActivityContext``,
            must be a function at the top level of a module, and receives and returns JSON. Let a process pool start its
            processes with ``"spawn"`` or ``"forkserver"``, because this process has threads.
        outboxes: Outboxes in databases of the application. The runtime relays them into the store while it works; see
            ``Outbox``. Default none.
        strict: Whether the runtime watches orchestrations while they run. A call whose result replay cannot repeat then
            raises ``NotAllowedInOrchestration``, which names what to use in its place: the clock, randomness, files,
            sockets, processes, threads, sleeps. It costs about 0.1 µs for each function call of an orchestration, and
            nothing elsewhere. Default ``None``: True under pytest and in Python's development mode (``python -X dev``),
            otherwise False.

    Raises:
        TypeError: An argument is of the wrong type.
        RegistrationError: One of the functions cannot be registered.
    """

    def __init__(
        self,
        provider: Provider,
        options: RuntimeOptions | None = None,
        *,
        functions: Iterable[ModuleType | Function | ActivityDefinition | OrchestrationDefinition] = (),
        executor: ExecutorChoice | Mapping[str, ExecutorChoice] | None = None,
        outboxes: Iterable[Outbox] = (),
        strict: bool | None = None,
    ) -> None:
        check_provider(provider)
        if options is not None and not isinstance(options, RuntimeOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"options must be RuntimeOptions, not {type(options).__name__}")
        check_executor(executor)
        self._provider = provider
        self._executor = executor
        self._outboxes = check_outboxes(outboxes)
        self._relays: list[OutboxThread] = []
        self._options = RuntimeOptions() if options is None else options
        self._strict = is_strict(strict)
        self._activities: dict[str, ActivityDefinition] = {}
        self._orchestrations: dict[tuple[str, str], OrchestrationDefinition] = {}
        self._lock = threading.RLock()
        self._native: _native.Runtime | None = None
        self._started_in: int | None = None
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None
        names = sys._getframe(1).f_locals
        for function in functions:
            self._add_function(function, names)

    @overload
    def register_activity(self, name: AnyFunction) -> AnyFunction: ...
    @overload
    def register_activity(self, name: str | None = None) -> Callable[[AnyFunction], AnyFunction]: ...
    @overload
    def register_activity(self, name: str, fn: AnyFunction) -> AnyFunction: ...
    def register_activity(self, name: Any = None, fn: Any = None, *, callback: Any = None, function: Any = None) -> Any:
        """Register an activity, as a decorator or as a call.

        Args:
            name: Name under which orchestrations schedule it; default ``None``, the function's ``__name__``.
            fn: A plain function or an ``async def``, called with an ``ActivityContext`` and the input. Without it, the
                call returns a decorator.
            callback: Another name of ``fn``.
            function: Another name of ``fn``.

        Returns:
            The function itself, or the decorator.

        Raises:
            RegistrationError: The function cannot be an activity, the name belongs to another function, or the runtime
                has been started.
        """

        def add(function: Function, chosen: Any, depth: int) -> None:
            self._add_activity(ActivityDefinition.of(function, chosen, _caller_names(depth)))

        return _register(name, _first(fn, callback, function), add)

    @overload
    def register_orchestration(self, name: AnyFunction) -> AnyFunction: ...
    @overload
    def register_orchestration(self, name: str | None = None) -> Callable[[AnyFunction], AnyFunction]: ...
    @overload
    def register_orchestration(self, name: str, fn: AnyFunction) -> AnyFunction: ...
    def register_orchestration(
        self, name: Any = None, fn: Any = None, *, callback: Any = None, function: Any = None
    ) -> Any:
        """Register an orchestration as version 1.0.0, as a decorator or as a call.

        Args:
            name: Name under which it is started; default ``None``, the function's ``__name__``.
            fn: A generator function, an ``async def`` or a plain function, called with an ``OrchestrationContext`` and
                the input. Without it, the call returns a decorator.
            callback: Another name of ``fn``.
            function: Another name of ``fn``.

        Returns:
            The function itself, or the decorator.

        Raises:
            RegistrationError: The function cannot be an orchestration, the name belongs to another function, or the
                runtime has been started.
        """

        def add(function: Function, chosen: Any, depth: int) -> None:
            self._add_orchestration(OrchestrationDefinition.of(function, chosen, None, _caller_names(depth)))

        return _register(name, _first(fn, callback, function), add)

    @overload
    def register_orchestration_versioned(self, name: str, version: str) -> Callable[[AnyFunction], AnyFunction]: ...
    @overload
    def register_orchestration_versioned(self, name: str, version: str, fn: AnyFunction) -> AnyFunction: ...
    def register_orchestration_versioned(
        self, name: str, version: str, fn: Any = None, *, callback: Any = None, function: Any = None
    ) -> Any:
        """Register one version of an orchestration, as a decorator or as a call.

        New instances take the newest version. A running instance keeps its version until it ends or continues as new.

        Args:
            name: Name under which it is started.
            version: Semantic version, such as ``"1.0.1"``.
            fn: As for ``register_orchestration``.
            callback: Another name of ``fn``.
            function: Another name of ``fn``.

        Returns:
            The function itself, or the decorator.

        Raises:
            RegistrationError: As for ``register_orchestration``, or the version is malformed.
        """

        def add(function: Function, chosen: Any, depth: int) -> None:
            self._add_orchestration(OrchestrationDefinition.of(function, chosen, version, _caller_names(depth)))

        return _register(name, _first(fn, callback, function), add)

    # The functions take and return JSON values under either name.
    register_activity_typed = register_activity
    register_orchestration_typed = register_orchestration
    register_orchestration_versioned_typed = register_orchestration_versioned

    def start(self) -> None:
        """Start the work on threads of the runtime, and return at once.

        Raises:
            DuroxideError: The runtime runs already.
            RegistrationError: An activity cannot run in its ``executor``.
            ConfigurationError: The database of an outbox cannot be opened, or has no outbox; or gevent or eventlet has
                replaced the threads that the runtime needs.
            ProviderError: The store fails.
        """
        self._start(ActivityLoop())

    def _start(self, loop: ActivityHost) -> None:
        with self._lock:
            if self._started_in is not None:
                raise DuroxideError("the runtime has been started already; call shutdown() before you start it again")
            self._check_threads()
            # Each start makes a new native runtime, because a native runtime runs only once.
            relays = [OutboxThread(outbox, self._provider) for outbox in self._outboxes]
            print_records(self._options.log_level, self._options.log_format)
            native = _native.Runtime(self._provider._store, {**self._options.to_native(), "strict": self._strict})
            provider = self._provider
            native.start(
                [self._activities[name] for name in sorted(self._activities)],
                # The engine requires the versions of a name from the oldest to the newest.
                sorted(
                    self._orchestrations.values(), key=lambda each: (each.name, version_order(each.resolved_version))
                ),
                place_activities(self._activities, loop, self._executor),
                lambda: Client(provider),
            )
            self._native = native
            self._relays = relays
            for relay in relays:
                relay.start()
            self._started_in = os.getpid()
            _running.add(self)

    def _check_threads(self) -> None:
        by = patched_by()
        if by is None:
            return
        is_async = any(each.is_async for each in self._activities.values())
        if is_async or self._outboxes or self._executor is not None:
            what = "'async def' activities" if is_async else "outboxes" if self._outboxes else "an executor"
            raise ConfigurationError(
                f"{by} has replaced the threads of this process, and {what} would never run: start the runtime in a "
                "process that is not patched, or use activities that are plain functions"
            )

    def shutdown(self, timeout_ms: int | timedelta | None = DEFAULT_SHUTDOWN_MS) -> None:
        """Stop the work; unfinished work continues at the next start. A runtime that does not run is left as it is.

        Args:
            timeout_ms: Longest time to wait for running work, in milliseconds or as a ``timedelta``; default 5,000, as is
                ``None``. The call returns as soon as that work is done.
        """
        timeout = check_milliseconds(DEFAULT_SHUTDOWN_MS if timeout_ms is None else timeout_ms, "timeout_ms")
        with self._lock:
            if self._native is not None and self._started_in is not None:
                deadline = time.monotonic() + timeout / 1000
                for relay in self._relays:
                    relay.stop()
                self._native.shutdown(timeout)
                for relay in self._relays:
                    # A relay without work ends at once.
                    relay.join(max(deadline - time.monotonic(), 0.1))
                self._started_in = None
                _running.discard(self)

    def metrics_snapshot(self) -> MetricsSnapshot:
        """Read the counters since the last start; all are zero before the first start.

        They have counted everything that a client has seen in the store before this call. The call may wait a moment for
        a commit that is under way. If the store does not answer within five seconds, ``active_orchestrations`` and
        ``orch_waiting_for_code`` are as they were last read.
        """
        return MetricsSnapshot() if self._native is None else MetricsSnapshot(**self._native.metrics())

    @property
    def client(self) -> Client:
        """A client of the same store."""
        with self._lock:
            if self._client is None:
                self._client = Client(self._provider)
            return self._client

    @property
    def async_client(self) -> AsyncClient:
        """A client of the same store for asyncio."""
        with self._lock:
            if self._async_client is None:
                self._async_client = AsyncClient(self._provider)
            return self._async_client

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    async def __aenter__(self) -> Runtime:
        loop = ApplicationLoop(self._end_with_loop)
        try:
            await run_in_thread(lambda: self._start(loop))
        except asyncio.CancelledError:
            await run_in_thread(self.shutdown)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await run_in_thread(self.shutdown)

    def _end_with_loop(self) -> None:
        # The closed loop cannot leave the ``async with`` any more. The next start or another process continues the
        # work.
        logging.getLogger("duroxide.runtime").warning(
            "the loop that entered the runtime is closed, so the runtime shuts down; leave 'async with' before the loop "
            "ends"
        )
        threading.Thread(target=self.shutdown, args=(0,), name="duroxide-shutdown", daemon=True).start()

    def __repr__(self) -> str:
        state = "stopped" if self._started_in is None else "running"
        return f"<Runtime on {self._provider!r}, {state}>"

    def _add_function(self, function: object, names: Mapping[str, Any]) -> None:
        if isinstance(function, ModuleType):
            self._add_module(function)
        elif isinstance(function, (Activity, Orchestration)):
            self._add_function(function.definition, names)
        elif isinstance(function, ActivityDefinition):
            self._add_activity(function)
        elif isinstance(function, OrchestrationDefinition):
            self._add_orchestration(function)
        elif not callable(function):
            raise RegistrationError(f"functions=[...] holds a {type(function).__name__}; pass functions or definitions")
        elif inspect.isgeneratorfunction(function):
            self._add_orchestration(OrchestrationDefinition.of(function, _name_of(function), None, names))
        else:
            self._add_activity(ActivityDefinition.of(function, _name_of(function), names))

    def _add_module(self, module: ModuleType) -> None:
        kinds = (Activity, Orchestration, ActivityDefinition, OrchestrationDefinition)
        found: list[Any] = [each for each in vars(module).values() if isinstance(each, kinds)]
        if not found:
            raise RegistrationError(
                f"module '{module.__name__}' declares nothing; decorate its functions with @activity or @orchestration"
            )
        for each in found:
            self._add_function(each, {})

    def _add_activity(self, definition: ActivityDefinition) -> None:
        with self._lock:
            self._check_registration(f"activity '{definition.name}'", definition, self._activities.get(definition.name))
            self._activities[definition.name] = definition

    def _add_orchestration(self, definition: OrchestrationDefinition) -> None:
        key = (definition.name, definition.resolved_version)
        with self._lock:
            what = f"version {definition.resolved_version} of orchestration '{definition.name}'"
            self._check_registration(what, definition, self._orchestrations.get(key))
            self._orchestrations[key] = definition

    def _check_registration(
        self,
        what: str,
        new: ActivityDefinition | OrchestrationDefinition,
        old: ActivityDefinition | OrchestrationDefinition | None,
    ) -> None:
        if self._started_in is not None:
            raise RegistrationError(f"{what} cannot be registered while the runtime works; register it before start()")
        if old is not None and not is_same_function(old.function, new.function):
            raise RegistrationError(
                f"{what} is registered already, with another function; give this one another name"
                + (" or version" if isinstance(new, OrchestrationDefinition) else "")
            )


def _register(name: Any, function: Any, add: Callable[[Function, Any, int], None]) -> Any:
    """Handle the three forms of a registration: a call, a decorator with a name, a bare decorator."""
    if function is not None:
        add(function, name, 4)
        return function
    if callable(name):
        add(name, _name_of(name), 4)
        return name

    def decorate(function: AnyFunction) -> AnyFunction:
        add(function, _name_of(function) if name is None else name, 3)
        return function

    return decorate


def _first(*functions: Any) -> Any:
    given = [each for each in functions if each is not None]
    if len(given) > 1:
        raise TypeError("a registration takes one function; fn, callback and function are names of one parameter")
    return given[0] if given else None


def _caller_names(depth: int) -> Mapping[str, Any]:
    # The annotations of a function inside another function may name local classes of that function.
    return sys._getframe(depth).f_locals


def _name_of(function: object) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise RegistrationError(f"{function!r} has no name; give it one, as in register_activity('name', f)")
    return name


def shut_down_all() -> None:
    """Shut down all runtimes of this process; called at its end."""
    note_exit()
    for runtime in list(_running):
        # A forked child has a copy of the runtime, but not its threads.
        if runtime._started_in == os.getpid():
            runtime.shutdown()
