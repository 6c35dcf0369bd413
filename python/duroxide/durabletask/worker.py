"""The worker: runs the orchestrators and activities of a program."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from duroxide import Runtime, RuntimeOptions
from duroxide.durabletask._logging import choose_logger
from duroxide.durabletask._orchestration.driver import orchestration_of
from duroxide.durabletask._store.location import Location
from duroxide.durabletask._store.opened import acquire, place_of, release
from duroxide.durabletask._worker.activities import activity_of
from duroxide.durabletask._worker.registry import Registry
from duroxide.durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ActivityNotRegisteredError",
    "ConcurrencyOptions",
    "OrchestratorNotRegisteredError",
    "TaskHubGrpcWorker",
]

_MOST_CONCURRENT = 65_536
# How long `stop` waits for activities that run. Later they are delivered again at the next start.
_STOP_MS = 30_000
# Time that work of an unknown name is left to other processes on PostgreSQL.
_UNREGISTERED_MS = 10_000


class OrchestratorNotRegisteredError(ValueError):
    """No worker has registered the orchestrator."""


class ActivityNotRegisteredError(ValueError):
    """No worker has registered the activity."""


def _default_concurrency() -> int:
    return 100 * (os.cpu_count() or 1)


@dataclass
class ConcurrencyOptions:
    """How much a worker does at the same time.

    Attributes:
        maximum_concurrent_activity_work_items: Activities that run at the same time; default 100 for each processor.
        maximum_concurrent_orchestration_work_items: Orchestrations that run a turn at the same time; default 100 for each
            processor.
        maximum_concurrent_entity_work_items: Accepted for durabletask's programs; default 100 for each processor.
        maximum_thread_pool_workers: Accepted for durabletask's programs, without effect: each running activity has its
            own thread. Default four more than processors.
    """

    maximum_concurrent_activity_work_items: int = field(default_factory=_default_concurrency)
    maximum_concurrent_orchestration_work_items: int = field(default_factory=_default_concurrency)
    maximum_concurrent_entity_work_items: int = field(default_factory=_default_concurrency)
    maximum_thread_pool_workers: int = field(default_factory=lambda: (os.cpu_count() or 1) + 4)


class TaskHubGrpcWorker:
    """Runs registered orchestrators and activities on a store. ``with`` stops it at its end.

    Arguments that configure a connection to a server are accepted for durabletask's programs and have no effect.

    Args:
        host_address: Where the store is: ``"sqlite:///path"``, ``"postgresql://..."``, ``"memory:NAME"``, or an address of
            a server, which stands for the store that ``DUROXIDE_DURABLETASK_STORE`` names, or else for a SQLite file.
            Default ``None``, durabletask's own default address.
        metadata: Without effect; default ``None``.
        log_handler: Handler for the logger of the worker; default ``None``.
        log_formatter: Formatter for that handler; default ``None``.
        logger: Logger of the worker; default ``None``, ``duroxide.durabletask``.
        channel: Without effect; default ``None``.
        secure_channel: Without effect; default False.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        concurrency_options: How much to do at the same time; default ``None``, as the runtime does.
        maximum_timer_interval: Without effect, since one timer of the store is as long as needed; default three days.
        payload_store: Without effect; default ``None``.
        data_converter: Converts inputs and results; default ``None``, ``DEFAULT_DATA_CONVERTER``.
        exception_properties_provider: Without effect; default ``None``.
        emit_trace_spans: Without effect; default True.

    Raises:
        ValueError: ``logger`` is given together with a handler or a formatter.
    """

    def __init__(
        self,
        *,
        host_address: str | None = None,
        metadata: Sequence[tuple[str, str]] | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        channel: Any = None,
        secure_channel: bool = False,
        interceptors: Sequence[Any] | None = None,
        channel_options: Any = None,
        resiliency_options: Any = None,
        concurrency_options: ConcurrencyOptions | None = None,
        maximum_timer_interval: timedelta | None = timedelta(days=3),
        payload_store: Any = None,
        data_converter: DataConverter | None = None,
        exception_properties_provider: Any = None,
        emit_trace_spans: bool = True,
    ) -> None:
        del metadata, channel, secure_channel, interceptors, channel_options, resiliency_options, payload_store
        del exception_properties_provider
        self._host_address = host_address
        self._task_hub: str | None = None
        self._logger = choose_logger(logger, log_handler, log_formatter)
        self._concurrency_options = concurrency_options
        self._maximum_timer_interval = maximum_timer_interval
        self._emit_trace_spans = emit_trace_spans
        self._converter = DEFAULT_DATA_CONVERTER if data_converter is None else data_converter
        self._registry = Registry()
        self._lock = threading.Lock()
        self._running: tuple[Runtime, Location] | None = None

    @property
    def concurrency_options(self) -> ConcurrencyOptions:
        """How much the worker does at the same time."""
        return self._concurrency_options or ConcurrencyOptions()

    @property
    def maximum_timer_interval(self) -> timedelta | None:
        """The value that was given; it has no effect."""
        return self._maximum_timer_interval

    @property
    def emit_trace_spans(self) -> bool:
        """The value that was given; it has no effect."""
        return self._emit_trace_spans

    def add_orchestrator(self, fn: Callable[..., Any]) -> str:
        """Register an orchestrator under the name of its function.

        Args:
            fn: A generator function, an ``async def`` or a plain function, called with a context and the input.

        Returns:
            The name.

        Raises:
            ValueError: It has no name, or the name is taken.
            RuntimeError: The worker runs.
        """
        self._check_stopped("orchestrators")
        return self._registry.add_orchestrator(fn, sys._getframe(1).f_locals)

    def add_activity(self, fn: Callable[..., Any]) -> str:
        """Register an activity under the name of its function.

        Args:
            fn: A plain function or an ``async def``, called with a context and the input.

        Returns:
            The name.

        Raises:
            ValueError: It has no name, or the name is taken.
            RuntimeError: The worker runs.
        """
        self._check_stopped("activities")
        return self._registry.add_activity(fn, sys._getframe(1).f_locals)

    def start(self) -> None:
        """Start the work on threads of the runtime, and return at once.

        Raises:
            RuntimeError: The worker runs already.
            ProviderError: The store fails.
        """
        with self._lock:
            if self._running is not None:
                raise RuntimeError("the worker runs already: call stop() before you start it again")
            location = place_of(self._host_address, self._task_hub)
            try:
                runtime = self._runtime(location)
                runtime.start()
            except BaseException:
                release(location)
                raise
            self._running = runtime, location
            self._logger.debug("the worker has started")

    def stop(self) -> None:
        """Stop the work. The call waits up to 30 seconds for activities that run. A stopped worker is left as it is."""
        with self._lock:
            if self._running is None:
                return
            runtime, location = self._running
            runtime.shutdown(_STOP_MS)
            release(location)
            self._running = None
            self._logger.debug("the worker has stopped")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _check_stopped(self, what: str) -> None:
        if self._running is not None:
            raise RuntimeError(f"the worker runs: register {what} before start(), or call stop() first")

    def _runtime(self, location: Location) -> Runtime:
        runtime = Runtime(acquire(location), self._options())
        activities = dict(self._registry.activities)
        for name, function in self._registry.orchestrators.items():
            runtime.register_orchestration(name, orchestration_of(function, self._converter, activities))
        for name, function in activities.items():
            runtime.register_activity(name, activity_of(function, self._converter))
        return runtime

    def _options(self) -> RuntimeOptions:
        chosen = self._concurrency_options
        if chosen is None:
            return RuntimeOptions(unregistered="fail", unregistered_timeout_ms=_UNREGISTERED_MS)
        return RuntimeOptions(
            unregistered="fail",
            unregistered_timeout_ms=_UNREGISTERED_MS,
            worker_concurrency=min(chosen.maximum_concurrent_activity_work_items, _MOST_CONCURRENT),
            orchestration_concurrency=min(chosen.maximum_concurrent_orchestration_work_items, _MOST_CONCURRENT),
        )
