"""Runs an activity of durabletask as an activity of the runtime."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from duroxide.durabletask._orchestration.failures import recorded
from duroxide.durabletask._payloads import from_recorded, to_recorded

if TYPE_CHECKING:
    from duroxide import ActivityContext as NativeContext
    from duroxide.durabletask._functions import Function
    from duroxide.durabletask.serialization import DataConverter


class ActivityContext:
    """The call of an activity, as the activity sees it. The worker makes it.

    Args:
        orchestration_id: Instance of the orchestration that called the activity.
        task_id: Number of the call in that instance.
        native: The context of the runtime; default ``None``, for unit tests.
    """

    def __init__(self, orchestration_id: str, task_id: int, native: NativeContext | None = None) -> None:
        self._orchestration_id = orchestration_id
        self._task_id = task_id
        self._native = native

    @property
    def orchestration_id(self) -> str:
        """Instance of the orchestration that called the activity."""
        return self._orchestration_id

    @property
    def task_id(self) -> int:
        """Number of the event that recorded the call."""
        return self._task_id

    @property
    def attempt(self) -> int:
        """How often the store delivered this call, counted from 1; a retry is a new call."""
        return 1 if self._native is None else self._native.attempt

    @property
    def idempotency_key(self) -> str:
        """Key of this call, for another system that must not do the same work twice."""
        return f"{self._orchestration_id}:{self._task_id}" if self._native is None else self._native.idempotency_key

    @property
    def logger(self) -> logging.Logger:
        """A logger for the activity."""
        return logging.getLogger("duroxide.durabletask.activity")

    def is_cancelled(self) -> bool:
        """Tell whether the activity was cancelled, so that its result has no receiver any more."""
        return self._native is not None and self._native.is_cancelled()


def activity_of(function: Function, converter: DataConverter) -> Callable[[NativeContext, Any], Any]:
    """Return the activity to register with the runtime.

    Args:
        function: A plain function or an ``async def``.
        converter: Converts inputs and results.
    """
    run = _run_async(function, converter) if _is_async(function.call) else _run(function, converter)
    run.__name__ = function.name
    run.__qualname__ = getattr(function.call, "__qualname__", function.name)
    return run


def _run(function: Function, converter: DataConverter) -> Callable[[NativeContext, Any], Any]:
    def run(native: NativeContext, input: Any) -> Any:
        try:
            return to_recorded(converter, function.call(*_arguments(function, converter, native, input)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (an activity may raise anything)
            raise recorded(error) from None

    return run


def _run_async(function: Function, converter: DataConverter) -> Callable[[NativeContext, Any], Any]:
    async def run(native: NativeContext, input: Any) -> Any:
        try:
            return to_recorded(converter, await function.call(*_arguments(function, converter, native, input)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (an activity may raise anything)
            raise recorded(error) from None

    return run


def _arguments(
    function: Function, converter: DataConverter, native: NativeContext, input: Any
) -> tuple[ActivityContext, Any]:
    context = ActivityContext(native.instance_id, native.activity_id or 0, native)
    return context, from_recorded(converter, input, function.input_type)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
